"""A causal LM with random weights and a tokenizer over bytes, made on the spot: small enough for any test."""

from __future__ import annotations

from typing import Any

from tests.fakes.tokenizers import over_bytes

WORDS = "red blue leather handbag usb cable 2 m notebook printer toner black original for copy centre the a of, "
QUERIES = ["red leather handbag", "", "usb cable 2 m " * 5, "a", "NOTEBOOK printer", "مرحبا 🙂", "toner", "red"]


def tiny_tokenizer() -> Any:
    """Return a tokenizer over bytes, as Qwen and SmolLM2 have it; ``<|end|>`` ends a text."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = over_bytes([WORDS, "Shopping query: Products to look for: Product: "], vocab_size=300, end="<|end|>")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<|end|>", eos_token="<|end|>")


def tiny_llama(vocab_size: int, *, seed: int = 0, tied: bool = True) -> Any:
    """Return a Llama of 32 dimensions with grouped heads, in eval mode."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
        max_position_embeddings=256,
        initializer_range=0.3,  # the usual 0.02 makes all tokens equally likely, and all vectors alike
        tie_word_embeddings=tied,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config).eval()
