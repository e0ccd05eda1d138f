"""What the service costs beside OpenSearch alone, and beside Haystack's hybrid pipeline."""
