"""Many machines, as a Ray cluster: they build the shards of an index, and answer for them."""
