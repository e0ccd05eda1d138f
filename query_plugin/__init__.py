"""Answering a query: embed it, ask OpenSearch, return a ranking."""
