"""What becomes of searches and of an ingest while nodes and services go and come, as the cluster tests record it."""
