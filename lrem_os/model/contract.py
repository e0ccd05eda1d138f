"""The tokenisation contract: everything that decides how a text becomes a vector, as one frozen value.

Two vectors may be compared only if their contracts are equal. Arithmetic (dtype, device, batch size) is not part of
it: it changes a cosine by less than 0.001. Why special tokens are: with a BOS token too many, every vector of a
decoder model looks alike, and nothing else tells.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Pooling = Literal["mean", "cls", "last"]
"""How token states become one vector: their mean, the first one, the last one."""

PROMPT_VERSION = 1
"""Version of ``prefix + text``, the way a text is handed to the tokenizer; raised whenever that changes."""


@dataclass(frozen=True, slots=True)
class TokenContract:
    """How a text becomes a vector.

    Args:
        model: The model's name without a path of this machine.
        revision: Hub commit, or hash of weights and tokenizer.
        dimension: Length D of a vector.
        pooling: How token states become one vector.
        max_tokens: Longer texts lose their end; special tokens count.
        special_tokens: What the tokenizer puts around every text, in order.
        query_prefix: Put before every query.
        item_prefix: Put before every item text.
        lowercase: Whether the text is lower-cased before the tokenizer sees it.
        padding_side: Where a batch is filled up: always the right, where padding moves no token to another position.
        normalised: Whether vectors have length 1.
        prompt_version: See ``PROMPT_VERSION``.
    """

    model: str
    revision: str
    dimension: int
    pooling: Pooling
    max_tokens: int
    special_tokens: tuple[str, ...]
    query_prefix: str = ""
    item_prefix: str = ""
    lowercase: bool = False
    padding_side: Literal["right"] = "right"
    normalised: bool = True
    prompt_version: int = PROMPT_VERSION

    @property
    def identity(self) -> Mapping[str, Any]:
        """The contract as plain JSON values."""
        return {**asdict(self), "special_tokens": list(self.special_tokens)}

    def fingerprint(self) -> str:
        """Return the SHA-256 of the identity as canonical JSON: equal if and only if the contracts are."""
        canonical = json.dumps(self.identity, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()
