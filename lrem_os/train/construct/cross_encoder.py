"""A cross-encoder as the judge: query and product read together, one number out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from lrem_os.errors import CheckpointError, ConfigError
from lrem_os.train.construct.endpoint import NoAnswer
from lrem_os.train.construct.journal import Journal
from lrem_os.train.construct.judge import MAX_ITEM_CHARS, Grade, Pair
from lrem_os.train.construct.prompts import Prompt


@dataclass(frozen=True, slots=True)
class CrossEncoderSettings:
    """A cross-encoder, and from which probability on a product is relevant.

    Args:
        name: Hub id or folder.
        revision: Hub commit or tag.
        acceptable: From this probability on the grade is 1.
        full: From this probability on the grade is 2.
        batch_size: Pairs in one forward pass.
        max_tokens: Longer pairs lose the end of the product.
    """

    name: str
    revision: str | None = None
    acceptable: float = 0.5
    full: float = 0.9
    batch_size: int = 32
    max_tokens: int = 512

    def __post_init__(self) -> None:
        if not 0 < self.acceptable <= self.full <= 1:
            raise ConfigError(f"the thresholds are {self.acceptable} and {self.full}: want 0 < acceptable <= full <= 1")


class CrossEncoderJudge:
    """Grades pairs with a sequence classifier of one output (relevant or not) or two (not relevant, relevant).

    Args:
        settings: Which, and the thresholds. Models differ in what their probabilities mean: look at some first.

    Raises:
        CheckpointError: It cannot be loaded, or has more outputs.
    """

    def __init__(self, settings: CrossEncoderSettings) -> None:
        self._settings = settings
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(settings.name, revision=settings.revision)
            self._model = AutoModelForSequenceClassification.from_pretrained(
                settings.name, revision=settings.revision, use_safetensors=True
            )
        except (OSError, ValueError) as exc:
            reason = " ".join(str(exc).split())[:300]
            raise CheckpointError(f"cannot load the cross-encoder {settings.name!r}: {reason}") from exc
        if self._model.config.num_labels not in (1, 2):
            raise CheckpointError(
                f"{settings.name!r} has {self._model.config.num_labels} outputs: want 1 (relevance) or 2 (no, yes)"
            )
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = self._model.to(self._device).eval()

    @property
    def identity(self) -> Mapping[str, Any]:
        """Model and thresholds."""
        settings = self._settings
        names = ("revision", "acceptable", "full", "max_tokens")
        return {"model": settings.name, **{name: getattr(settings, name) for name in names}}

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """None: it is not asked in words."""
        return ()

    def grade(self, pairs: Sequence[Pair], journal: Journal) -> list[Grade]:
        """Return a grade a pair, in the order given."""
        todo = [pair for pair in pairs if journal.recall(pair.query_id, f"judge {pair.doc_id}") is None]
        todo.sort(key=lambda pair: len(pair.query) + len(pair.item))  # alike in length: less padding
        for first in range(0, len(todo), self._settings.batch_size):
            batch = todo[first : first + self._settings.batch_size]
            for pair, probability in zip(batch, self._probabilities(batch), strict=True):
                journal.record(pair.query_id, f"judge {pair.doc_id}", probability if math.isfinite(probability) else -1)
        return [self._grade(journal.recall(pair.query_id, f"judge {pair.doc_id}")) for pair in pairs]

    def _grade(self, probability: float) -> Grade:
        if probability < 0:
            return NoAnswer("the cross-encoder gave NaN")
        return (probability >= self._settings.acceptable) + (probability >= self._settings.full)

    @torch.inference_mode()
    def _probabilities(self, pairs: Sequence[Pair]) -> list[float]:
        inputs = self._tokenizer(
            [pair.query for pair in pairs],
            [pair.item[:MAX_ITEM_CHARS] for pair in pairs],
            padding=True,
            truncation="longest_first",
            max_length=min(self._settings.max_tokens, self._tokenizer.model_max_length),
            return_tensors="pt",
        ).to(self._device)
        logits = self._model(**inputs).logits.float()  # (B, 1 or 2)
        one = logits[:, 0].sigmoid() if logits.shape[1] == 1 else logits.softmax(dim=1)[:, 1]
        probabilities: list[float] = one.tolist()
        return probabilities
