"""The ingest on a Ray cluster of two nodes, one of them killed, beside the ingest of one process."""
