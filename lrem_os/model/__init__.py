"""Embedding models: finding and checking their files, tokenising, running, pooling."""
