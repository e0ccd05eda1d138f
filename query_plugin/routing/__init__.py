"""Which queries are worth reasoning about."""
