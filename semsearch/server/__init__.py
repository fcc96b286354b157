"""HTTP and MCP: the API, the tools, and what guards them, over the same `Searcher`."""
