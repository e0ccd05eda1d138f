"""lrem-os' embedder against sentence-transformers: same model, same texts, one process, in turns."""
