"""HTTP: the JSON API and what guards it, over the same `Searcher`."""
