"""One pass against generate-then-re-encode, and decoding against transformers' own `generate`."""
