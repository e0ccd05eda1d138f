"""A real OpenSearch node on this machine, without Docker."""
