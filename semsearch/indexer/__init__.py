"""Documents to an index."""
