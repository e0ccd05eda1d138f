from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from lrem_os.errors import DatasetError
from lrem_os.train.construct import lrem, remixer
from lrem_os.train.construct.card import Card, checksums, write_card
from lrem_os.train.construct.lines import checksum
from lrem_os.train.construct.prompts import EXTRACT, REASON
from lrem_os.train.construct.run import Files


def test_the_card_says_where_the_lines_come_from(tmp_path: Path) -> None:
    files = Files(tmp_path / "out.jsonl")
    files.out.write_text('{"query": "bag"}\n')
    settings = {"teacher": {"model": "qwen", "seed": 3}, "a|b": "x|y"}
    counts = {"read": 1234, "written": 5, "made_up": 1}
    card = Card("Title", lrem.SOURCE, settings, lrem.STEPS, counts, (REASON, EXTRACT), {"log": "abc"}, ("Unjudged.",))
    value = write_card(card, files)
    assert orjson.loads((tmp_path / "out.card.json").read_bytes()) == value
    assert value["output"] == {"file": "out.jsonl", "sha256": checksum(files.out)}
    assert list(value["counts"]) == list(lrem.STEPS)
    assert (value["counts"]["read"], value["counts"]["relevant"]) == (1234, 0)
    assert value["prompts"]["lrem-extract-1"]["user"] == EXTRACT.user
    assert abs((datetime.now(UTC) - datetime.fromisoformat(value["created"])).total_seconds()) < 600
    page = (tmp_path / "out.card.md").read_text(encoding="utf-8")
    assert "| lines read | 1,234 |" in page
    assert '`{"model": "qwen", "seed": 3}`' in page
    assert "- Unjudged." in page
    assert all("    " + line in page for line in REASON.user.split("\n"))
    assert all(row.count("|") == 3 for row in page.split("\n") if row.startswith("|"))
    assert str(tmp_path) not in page


def test_files_of_one_name_keep_their_checksums_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "log").write_text(folder)
    sums = checksums([tmp_path / "a" / "log", tmp_path / "b" / "log"])
    assert list(sums) == ["log", "log (2)"]
    assert len(set(sums.values())) == 2
    with pytest.raises(DatasetError, match="cannot be read"):
        checksums([tmp_path / "absent"])


def test_every_count_has_a_name() -> None:
    for steps in (lrem.STEPS, remixer.STEPS):
        assert {"read", "unusable", "failed", "written"} <= set(steps)
