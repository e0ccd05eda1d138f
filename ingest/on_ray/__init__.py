"""The ingest on a Ray cluster: Ray Data reads, pools of actors embed and write."""
