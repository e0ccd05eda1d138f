"""What the perturbations know about words: where they lie in a text, which are protected, and what stands in for one.

Synonyms come from a file or folder of the user's. No package was found on the Python index that carries WordNet's
data, and a download at run time would make two machines disagree.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lrem_os.errors import DatasetError
from lrem_os.eval.datasets import read_file


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


STOP_WORDS = _words(
    """
    a about above after again against all am an and any are as at be because been before being below between both but by
    can could did do does doing down during each few for from further had has have having he her here hers herself him
    himself his how i if in into is it its itself just let like me more most my myself of off on once only or other our
    ours ourselves out over own same she should so some such than that the their theirs them themselves then there these
    they this those through to too under until up very was we were what when where which while who whom why will with
    would you your yours yourself yourselves
    """
)
"""English function words, without ``NEGATIONS``; "like" among them: queries say "something like a …"."""

NEGATIONS = _words(
    """
    aren't barring can't cannot couldn't didn't doesn't don't except excluding hadn't hasn't haven't isn't minus neither
    never no non none nor not nothing shouldn't wasn't weren't without won't wouldn't
    """
)
"""Never dropped: without them the query asks for something else, and its judgments no longer hold."""

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_PARTS = {"1": "noun", "2": "verb", "3": "adj", "4": "adv", "5": "adj"}
_SENSE = re.compile(r"([^% ]+)%([1-5]):\S* ([0-9]{8}) ([0-9]+) ([0-9]+)")
_SYNSET_BYTES = 20_000  # the longest line of WordNet 3.1 has 15,000
_MAX_PHRASE = 4  # words of a query that are looked up together

Synonyms = Callable[[str], tuple[str, ...]]
"""From a word or phrase in lower case to what may stand in its place; empty where nothing does."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word where it stands in a text.

    Args:
        start: Of its first character.
        end: One past its last.
        text: As written.
    """

    start: int
    end: int
    text: str

    @property
    def key(self) -> str:
        """As it is looked up."""
        return self.text.casefold().replace("’", "'")


def find_words(text: str) -> list[Word]:
    """Return the words of a text in their order; an apostrophe inside belongs to the word, a hyphen does not.

    >>> [word.text for word in find_words("mother's day, x100-ready")]
    ["mother's", 'day', 'x100', 'ready']
    """
    return [Word(match.start(), match.end(), match.group()) for match in _WORD.finditer(text)]


def is_function_word(word: Word) -> bool:
    """Return whether a word is a stop word or a negation."""
    return word.key in STOP_WORDS or word.key in NEGATIONS


def phrases(words: list[Word]) -> Iterator[tuple[Word, Word, str]]:
    """Yield every run of up to four words: its first word, its last, and the run in lower case."""
    for first in range(len(words)):
        for last in range(first, min(first + _MAX_PHRASE, len(words))):
            yield words[first], words[last], " ".join(word.key for word in words[first : last + 1])


def read_synonyms(path: str | Path) -> Synonyms:
    """Return the synonyms of a Solr file, the format of OpenSearch's ``synonym`` filter, or of a WordNet folder.

    Solr: ``sofa, couch`` stand for each other; ``i-pod => ipod`` goes one way; ``#`` begins a comment. A WordNet
    folder holds ``index.sense``, ``data.noun`` and so on, as the Debian package ``wordnet-base`` installs them in
    ``/usr/share/wordnet``; a word is replaced by the others of its most frequent sense.

    Raises:
        DatasetError: It cannot be read, or a line is no rule.

    Source: OpenSearch 3.6 documentation, "Synonym token filter"; Princeton WordNet 3.1, wndb(5WN).
    """
    return _read_wordnet(Path(path)) if Path(path).is_dir() else _read_solr(path)


def _read_solr(path: str | Path) -> Synonyms:
    table: dict[str, dict[str, None]] = {}
    for number, line in read_file(path).lines:
        rule = line.split("#", 1)[0].strip()
        if not rule:
            continue
        left, arrow, right = rule.partition("=>")
        sources, targets = _terms(left), _terms(right) if arrow else _terms(left)
        if not sources or not targets or (not arrow and len(sources) < 2):
            raise DatasetError(
                f"{rule!r} is no synonym rule", path=path, line=number, hint="write `sofa, couch` or `i-pod => ipod`"
            )
        for source in sources:
            key = _phrase_key(source)
            table.setdefault(key, {}).update({target: None for target in targets if _phrase_key(target) != key})
    return _lookup({key: tuple(targets) for key, targets in table.items()})


def _terms(side: str) -> list[str]:
    return [" ".join(term.split()) for term in side.split(",") if term.strip()]


def _phrase_key(text: str) -> str:
    return " ".join(word.key for word in find_words(text))


def _lookup(table: Mapping[str, tuple[str, ...]]) -> Synonyms:
    return lambda key: table.get(key, ())


def _read_wordnet(folder: Path) -> Synonyms:
    try:
        index = (folder / "index.sense").read_text(encoding="utf-8")
        data = {part: (folder / f"data.{part}").read_bytes() for part in dict.fromkeys(_PARTS.values())}
    except (OSError, UnicodeDecodeError) as exc:
        raise DatasetError(
            f"no WordNet: {exc}", path=folder, hint="a folder with index.sense, data.noun, …, or a Solr file"
        ) from exc
    senses: dict[str, tuple[int, str, int]] = {}  # lemma → how often its first sense is met, and where that lies
    for number, line in enumerate(index.split("\n"), 1):
        if line:
            lemma, count, part, start = _sense(line, folder / "index.sense", number)
            if count > senses.get(lemma, (-1, "", 0))[0]:
                senses[lemma] = (count, part, start)

    def look_up(key: str) -> tuple[str, ...]:
        if key not in senses:
            return ()
        _, part, start = senses[key]
        lemmas = _synset(data[part][start : start + _SYNSET_BYTES], folder / f"data.{part}", start)
        return tuple(lemma for lemma in dict.fromkeys(lemmas) if lemma.casefold() != key)

    return look_up


def _sense(line: str, path: Path, number: int) -> tuple[str, int, str, int]:
    """Return lemma, count, part of speech and place: ``lemma%type:… offset number count``; -1 for a rarer sense."""
    match = _SENSE.fullmatch(line)
    if match is None:
        raise DatasetError(f"{line[:60]!r} is no line of a WordNet index", path=path, line=number)
    lemma, part, start, rank, count = match.groups()
    return lemma.replace("_", " "), int(count) if rank == "1" else -1, _PARTS[part], int(start)


def _synset(data: bytes, path: Path, start: int) -> list[str]:
    """Return the lemmas of a synset: ``offset lex type n lemma id lemma id …``, n in hexadecimal."""
    fields = data.split(b"\n", 1)[0].decode("utf-8", "replace").split()
    try:
        return [fields[4 + 2 * row].split("(")[0].replace("_", " ") for row in range(int(fields[3], 16))]
    except (IndexError, ValueError) as exc:
        raise DatasetError(f"no synset lies at byte {start}", path=path, hint="index and data differ?") from exc
