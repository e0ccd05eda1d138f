"""Loading a catalog into OpenSearch: read, check, embed, write; nothing lost silently."""
