"""Training: from a catalog and a query log to a reasoner and an embedder. Needs the extra ``train``."""
