"""What training tests share: a tiny shop, tiny models with random weights, and recipes over them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.fakes import tokenizers

TOPICS = (  # query, keywords, title of the product that answers it
    ("cold feet", "wool socks, slippers", "Grey wool socks"),
    ("dark room", "desk lamp, bulb", "Brass desk lamp"),
    ("rainy walk", "umbrella, coat", "Yellow umbrella"),
    ("loud office", "headphones, earplugs", "Black headphones"),
    ("long flight", "neck pillow, mask", "Blue neck pillow"),
    ("muddy garden", "rubber boots, gloves", "Green rubber boots"),
)
GENERAL = (("quiet evening", "tea, novel"), ("first camp", "tent, stove"))
EASY = ("yellow umbrella", "Yellow umbrella")


def write_shop(root: Path) -> Path:
    """Write a shop with six hard queries, an easy one, and two without a catalog."""
    titles = [title for _, _, title in TOPICS]
    items = [{"id": f"p{row}", "title": title, "brand": "Acme"} for row, title in enumerate(titles)]
    items += [{"id": f"x{row}", "title": f"Plain {title.split()[-1]} case"} for row, title in enumerate(titles)]
    queries: list[dict[str, Any]] = [
        {"qid": f"q{row}", "type": "qa", "query": query, "cot": keywords, "positives": {f"p{row}": 2}}
        for row, (query, keywords, _) in enumerate(TOPICS)
    ]
    queries[0]["violates"] = ["x0"]
    queries.append({"qid": "e0", "type": "easy", "query": EASY[0], "cot": "parasol", "positives": {"p2": 2}})
    general = [{"qid": f"g{row}", "type": "qa", "query": query, "cot": cot} for row, (query, cot) in enumerate(GENERAL)]
    (root / "teacher").mkdir(parents=True)
    for name, rows in (("retail", queries), ("general", general)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (root / "teacher" / f"{name}.jsonl").write_text(text, encoding="utf-8")
    (root / "retail").mkdir()
    with gzip.open(root / "retail" / "catalog.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(item) + "\n" for item in items)
    return root


def texts() -> list[str]:
    """Return what the tokenizers are trained on."""
    return [*(" ".join(topic) for topic in TOPICS), *(" ".join(pair) for pair in GENERAL), "Shopping query Products to"]


def write_causal(folder: Path, *, width: int = 32, seed: int = 0) -> Path:
    """Write a Llama with random weights and a byte-level tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tokenizers.over_bytes(texts() * 3, vocab_size=450, end="<|end|>")
    vocab_size = tokenizers.save(tokenizer, folder, eos_token="<|end|>", pad_token="<|end|>", model_max_length=256)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        initializer_range=0.1,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(str(folder))
    return folder


def write_encoder(folder: Path, *, width: int = 32, seed: int = 0) -> Path:
    """Write a BERT with random weights and a WordPiece tokenizer."""
    import torch
    from transformers import BertConfig, BertModel

    tokenizer = tokenizers.over_words([*texts(), "abcdefghijklmnopqrstuvwxyz"], vocab_size=300)
    vocab_size = tokenizers.save(tokenizer, folder, pad_token="[PAD]", unk_token="[UNK]", model_max_length=48)
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=vocab_size,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        initializer_range=0.2,
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(str(folder))
    return folder


def recipe_values(stage: str, root: Path, base: Path, embedder: Path | None = None) -> dict[str, Any]:
    """Return a recipe over the shop: a few steps, no adapter."""
    values: dict[str, Any] = {
        "stage": stage,
        "base": {"name": str(base)},
        "lora": None,
        "device": "cpu",
        "data": {
            "root": str(root),
            "queries": {"retail": "teacher/retail.jsonl", "general": "teacher/general.jsonl"},
            "catalogs": {"retail": "retail/catalog.jsonl.gz"},
            "validation_share": 0.0,
        },
        "optimisation": {"epochs": 4, "batch_size": 4, "learning_rate": 5e-3, "save_every": 3, "weight_decay": 0.0},
    }
    if stage == "rl":
        values["embedders"] = [{"name": str(embedder)}]
        values["options"] = {"group": 4, "keep": 2, "max_tokens": 6, "head_queries": 0}
    return values


def write_recipe(path: Path, values: dict[str, Any]) -> Path:
    """Write a recipe; JSON is YAML."""
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


def weights(folder: Path) -> dict[str, Any]:
    """Return the tensors of a checkpoint or of an output."""
    from safetensors.torch import load_file

    found: dict[str, Any] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found.update(load_file(path))
    return found


def metric(path: Path, name: str) -> Sequence[float]:
    """Return a column of ``metrics.csv``, without steps that lack it."""
    import csv

    with path.open(newline="", encoding="utf-8") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]
