"""The same wish in other words, from a language model: the prompt, what is taken from an answer, and the cache.

Who is asked is handed in. What was answered once is in the cache, so a run that is repeated asks the same queries, and
one that was cut off goes on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from lrem_os.errors import DatasetError
from lrem_os.lines import cut_torn_line
from lrem_os.text import without_thinking

PROMPT_VERSION = "paraphrase-2"
"""Raised whenever the prompt, or what is taken from an answer, changes: it is part of the cache's key."""

_PROMPT = """Rewrite this shopping query as another shopper would type it.
Keep the meaning. Keep every brand, number, size, colour, price and everything that is excluded. Add nothing.
Answer with the new query alone, on one line.

Query: {query}"""

_LABEL = re.compile(r"^(new query|rewritten query|query|answer)\s*:\s*", re.IGNORECASE)
_BATCH = 32  # prompts handed over at once: a kill costs little
_MAX_RATIO = 4  # an answer longer than this many times the query is a lecture

Ask = Callable[[Sequence[str], int], Sequence[str | None]]
"""``ask(prompts, seed)``: one answer a prompt, in order; ``None`` where the server refused."""


def build_prompt(query: str) -> str:
    """Return what the model is asked."""
    return _PROMPT.format(query=" ".join(query.split()))


def parse_answer(answer: str, query: str) -> str | None:
    """Return the paraphrase in an answer; ``None`` where there is none: empty, the query itself, or a lecture.

    >>> parse_answer('Query: "couch in red"', "red sofa")
    'couch in red'
    """
    lines = [line.strip() for line in without_thinking(answer).split("\n") if line.strip()]
    text = _LABEL.sub("", lines[0]).strip(" \t\"'“”`*") if lines else ""
    text = " ".join(text.split())
    if not text or text.casefold() == " ".join(query.split()).casefold() or len(text) > _MAX_RATIO * len(query) + 40:
        return None
    return text


class Paraphrases:
    """Paraphrases by query and seed, asked for once.

    Args:
        ask: Who is asked.
        identity: What decides an answer beside prompt and seed: model, temperature.
        path: The cache, JSONL; made when there is something to keep. None: nothing is kept.

    Raises:
        DatasetError: The cache cannot be read.
    """

    def __init__(self, ask: Ask, identity: Mapping[str, Any], path: Path | None) -> None:
        self._ask, self._path = ask, path
        self._identity = {"prompt": PROMPT_VERSION, **identity}
        self._known = {} if path is None else _read(path)

    def of(self, texts: Sequence[str], seed: int) -> dict[str, str]:
        """Return text → paraphrase; texts that the model has nothing usable for are left out.

        Raises:
            DatasetError: The cache cannot be written.
            GenerationError: The server failed as a whole.
        """
        missing = [text for text in dict.fromkeys(texts) if self._key(text, seed) not in self._known]
        for first in range(0, len(missing), _BATCH):
            part = missing[first : first + _BATCH]
            self._keep(part, self._ask([build_prompt(text) for text in part], seed), seed)
        found = {text: self._known.get(self._key(text, seed)) for text in texts}
        return {text: paraphrase for text, paraphrase in found.items() if paraphrase}

    def _keep(self, texts: Sequence[str], answers: Sequence[str | None], seed: int) -> None:
        rows = []
        for text, answer in zip(texts, answers, strict=True):
            if answer is None:
                continue  # refused: asked again the next time
            paraphrase = parse_answer(answer, text)
            self._known[self._key(text, seed)] = paraphrase
            rows.append(
                {"key": self._key(text, seed), "query": text, "seed": seed, "paraphrase": paraphrase, **self._identity}
            )
        if self._path is None or not rows:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as file:
                file.write(b"".join(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows))
        except OSError as exc:
            raise DatasetError(f"cannot write it: {exc.strerror or exc}", path=self._path) from exc

    def _key(self, text: str, seed: int) -> str:
        value = orjson.dumps([text, seed, self._identity], option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(value).hexdigest()[:32]


def _read(path: Path) -> dict[str, str | None]:
    """Return key → paraphrase. A last line without its end was being written when the process died; it is cut off."""
    try:
        cut_torn_line(path)
        whole = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise DatasetError(f"cannot read it: {exc.strerror or exc}", path=path) from exc
    known: dict[str, str | None] = {}
    for number, line in enumerate(whole.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
            known[row["key"]] = row["paraphrase"]
        except (orjson.JSONDecodeError, KeyError, TypeError) as exc:
            raise DatasetError(
                f"no paraphrase: {line[:60]!r}", path=path, line=number, hint="delete the line, or the file"
            ) from exc
    return known
