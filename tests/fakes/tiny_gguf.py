"""A Llama of one layer in a GGUF file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

WIDTH, HEADS, INNER = 16, 2, 32


def write_gguf(path: Path) -> Path:
    """Write a Llama of one layer with random weights and a byte-level tokenizer."""
    import gguf
    from tokenizers.pre_tokenizers import ByteLevel

    tokens = ["<|end|>", *sorted(ByteLevel.alphabet()), "re", "red"]
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, *[1] * (len(tokens) - 1)])
    writer.add_token_merges(["r e", "re d"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    square, norm = (WIDTH, WIDTH), (WIDTH,)
    shapes = dict.fromkeys((f"blk.0.attn_{name}" for name in ("q", "k", "v", "output")), square)
    shapes |= {"blk.0.ffn_gate": (INNER, WIDTH), "blk.0.ffn_up": (INNER, WIDTH), "blk.0.ffn_down": (WIDTH, INNER)}
    shapes |= dict.fromkeys(("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"), norm)
    shapes |= {"token_embd": (len(tokens), WIDTH)}
    draw = np.random.default_rng(0)
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", draw.standard_normal(shape, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
