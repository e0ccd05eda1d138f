"""Makes training data: queries with reasoning and products, from a log, a catalog or clicks."""
