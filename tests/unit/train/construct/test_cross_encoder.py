from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lrem_os.errors import CheckpointError, ConfigError
from lrem_os.train.construct.endpoint import NoAnswer
from lrem_os.train.construct.journal import Journal
from lrem_os.train.construct.judge import Pair

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from lrem_os.train.construct.cross_encoder import CrossEncoderJudge, CrossEncoderSettings  # noqa: E402 - needs torch

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "blue", "bag", "hat", "leather"]
PAIRS = [
    Pair("q1", "red bag", "p1", "red leather bag"),
    Pair("q1", "red bag", "p2", "blue hat"),
    Pair("q2", "hat " * 100, "p1", "red leather bag " * 100),
]


def save(folder: Path, num_labels: int) -> Path:
    """Write a BERT of random weights that scores pairs, with a tokenizer over a few words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    fast: Any = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=48, **special)
    fast.save_pretrained(str(folder))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=48,
        num_labels=num_labels,
        initializer_range=0.5,
    )
    BertForSequenceClassification(config).save_pretrained(str(folder))
    return folder


def expected(folder: Path, pair: Pair) -> float:
    """Return the probability, pair by pair, without our code."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(str(folder))(pair.query, pair.item, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        logits = AutoModelForSequenceClassification.from_pretrained(str(folder)).eval()(**tokens).logits[0]
    return float(logits.sigmoid()[0] if len(logits) == 1 else logits.softmax(0)[1])


@pytest.mark.parametrize("num_labels", [1, 2])
def test_grades_are_the_thresholds_of_the_probabilities(tmp_path: Path, num_labels: int) -> None:
    folder = save(tmp_path / "judge", num_labels)
    probabilities = [expected(folder, pair) for pair in PAIRS]
    low, high = sorted(probabilities)[1] - 1e-4, sorted(probabilities)[2] - 1e-4
    judge = CrossEncoderJudge(CrossEncoderSettings(str(folder), acceptable=low, full=high, batch_size=2))
    with Journal(tmp_path / "j", {}) as journal:
        grades = judge.grade(PAIRS, journal)
        noted = [journal.recall(pair.query_id, f"judge {pair.doc_id}") for pair in PAIRS]
    order = sorted(range(3), key=probabilities.__getitem__)
    assert [grades[idx] for idx in order] == [0, 1, 2]
    assert noted == pytest.approx(probabilities, abs=1e-5)


def test_what_was_judged_is_not_judged_again_and_nan_is_no_grade(tmp_path: Path) -> None:
    judge = CrossEncoderJudge(CrossEncoderSettings(str(save(tmp_path / "judge", 1))))
    with Journal(tmp_path / "j", {}) as journal:
        journal.record("q1", "judge p2", 0.95)
        judge._model.classifier.weight.data.fill_(float("nan"))
        first, second, _ = judge.grade(PAIRS, journal)
    assert isinstance(first, NoAnswer)
    assert second == 2


def test_what_is_no_judge_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has 4 outputs"):
        CrossEncoderJudge(CrossEncoderSettings(str(save(tmp_path / "esci", 4))))
    with pytest.raises(CheckpointError, match="cannot load"):
        CrossEncoderJudge(CrossEncoderSettings(str(tmp_path / "absent")))
    with pytest.raises(ConfigError, match=r"thresholds are 0\.9 and 0\.5"):
        CrossEncoderSettings("x", acceptable=0.9, full=0.5)
