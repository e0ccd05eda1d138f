"""Measuring runs on judged queries. Imports no serving and no ingest code: it is handed retrievers."""
