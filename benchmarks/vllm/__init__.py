"""transformers against vLLM: the same text, the same vectors, and what our layer over vLLM costs."""
