from __future__ import annotations

from pathlib import Path

import pytest

from lrem_os.errors import DatasetError
from lrem_os.eval.robustness.words import NEGATIONS, STOP_WORDS, find_words, phrases, read_synonyms

DATA = b"""\
  1 a licence, which is indented
00000035 03 n 03 sofa 0 couch 0 chaise_longue 0 001 @ 00000200 n 0000 | a seat for two
00000120 00 a 02 red 0 crimson(a) 0 000 | of the colour of blood
"""


@pytest.fixture
def wordnet(tmp_path: Path) -> Path:
    places = {word: DATA.index(word.encode() + b" 0") - len("00000035 03 n 03 ") for word in ("sofa", "red")}
    (tmp_path / "index.sense").write_text(
        f"couch%1:06:00:: {places['sofa']:08} 1 3\n"
        f"sofa%1:06:00:: {places['sofa']:08} 1 3\n"
        f"red%1:07:00:: {places['sofa']:08} 1 0\n"
        f"red%3:00:01:: {places['red']:08} 1 40\n"
        f"sofa%1:06:01:: {places['red']:08} 2 90\n"
        f"chaise_longue%1:06:00:: {places['sofa']:08} 1 0\n"
    )
    for part in ("noun", "verb", "adj", "adv"):
        (tmp_path / f"data.{part}").write_bytes(DATA)
    return tmp_path


def test_the_most_frequent_first_sense_decides(wordnet: Path) -> None:
    synonyms = read_synonyms(wordnet)
    assert synonyms("sofa") == ("couch", "chaise longue")
    assert synonyms("red") == ("crimson",)
    assert synonyms("chaise longue") == ("sofa", "couch")
    assert synonyms("lamp") == ()


def test_a_folder_that_is_no_wordnet(tmp_path: Path, wordnet: Path) -> None:
    (wordnet / "index.sense").write_text("sofa 12\n")
    with pytest.raises(DatasetError, match=r"index\.sense:1: 'sofa 12' is no line of a WordNet index"):
        read_synonyms(wordnet)
    (wordnet / "index.sense").write_text("sofa%1:06:00:: 00000003 1 3\n")
    with pytest.raises(DatasetError, match="no synset lies at byte 3"):
        read_synonyms(wordnet)("sofa")
    (wordnet / "data.verb").unlink()
    with pytest.raises(DatasetError, match="no WordNet"):
        read_synonyms(wordnet)


def test_solr_rules(tmp_path: Path) -> None:
    path = tmp_path / "synonyms.txt"
    path.write_text("# furniture\nSofa, couch , settee\ni-pod, i pod => iPod\nsofa, divan  # later\n")
    synonyms = read_synonyms(path)
    assert synonyms("sofa") == ("couch", "settee", "divan")
    assert synonyms("couch") == ("Sofa", "settee")
    assert synonyms("i pod") == ("iPod",)
    assert synonyms("ipod") == ()


@pytest.mark.parametrize("line", ["sofa", "sofa =>", "=> sofa", "a,"])
def test_a_line_that_is_no_rule(tmp_path: Path, line: str) -> None:
    (tmp_path / "s.txt").write_text(f"a, b\n{line}\n")
    with pytest.raises(DatasetError, match=r"s\.txt:2: .* is no synonym rule"):
        read_synonyms(tmp_path / "s.txt")


def test_words_and_phrases() -> None:
    words = find_words("Mother’s day, x100-ready")
    assert [word.key for word in words] == ["mother's", "day", "x100", "ready"]
    assert [key for _, _, key in phrases(words[:3])] == [
        "mother's",
        "mother's day",
        "mother's day x100",
        "day",
        "day x100",
        "x100",
    ]


def test_no_word_is_both() -> None:
    assert not STOP_WORDS & NEGATIONS
    assert {"not", "without", "no"} <= NEGATIONS
    assert {"for", "the", "under"} <= STOP_WORDS
