"""The HTTP service between a shop and OpenSearch."""
