"""A language model as the judge: query and product in, a grade of 0 to 3 out; asked once, whatever happens.

How the model is reached is handed in. Every answer is on disk before the next one counts, under a key made of
everything that decides it, so a run that is killed, or repeated, asks for nothing twice.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import orjson

from lrem_os.errors import DatasetError, InputError
from lrem_os.lines import claim
from lrem_os.text import without_thinking

PROMPT_VERSION = "grade-1"
SYSTEM = """You judge how well a product answers a shopping query. You are strict and fair. The grades:
3 - exactly: the product that was asked for, with every condition met.
2 - mostly: what was asked for, with a lesser condition open or missed.
1 - partly: related, and a shopper who asks this might consider it.
0 - not: another kind of product, an accessory of it, or it breaks a condition.
Answer with the grade alone: 0, 1, 2 or 3."""
PROMPT = """Query: {query}

Product:
{item}

Grade (0, 1, 2 or 3):"""
"""What all questions share stands first, so that servers compute it once (prefix caching). Raise ``PROMPT_VERSION``
whenever this or ``SYSTEM`` changes: answers to another prompt are other answers."""

ANSWER_SCHEMA: dict[str, Any] = {
    "type": "json_schema",
    "json_schema": {
        "name": "judgment",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"grade": {"type": "integer", "enum": [0, 1, 2, 3]}},
            "required": ["grade"],
            "additionalProperties": False,
        },
    },
}
"""``response_format`` of the OpenAI API that leaves a model no other answer than a grade; many servers know it."""

MAX_ITEM_CHARS = 3000
"""The judge reads no more of a product: a long description must not exceed the model's context."""

_CHARS_PER_TOKEN = 4  # of English, roughly: for an estimate of the cost
_GRADE = re.compile(r"(?<![\w.])([0-3])(?!\w|\.\d)")
_LABELLED = re.compile(r"\bgrade\W{0,4}(?:is\W{0,4})?([0-3])(?!\w|\.\d|\s*(?:to|or|,|-)\s*\d)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Pair:
    """What is judged."""

    query_id: str
    query: str
    doc_id: str
    item: str

    @property
    def prompt(self) -> str:
        """What the model reads. In one pass, so that braces inside a text stay what they are."""
        values = {"query": self.query, "item": self.item[:MAX_ITEM_CHARS]}
        return re.sub(r"\{(\w+)\}", lambda match: values[match[1]], PROMPT)


Ask = Callable[[Sequence[str], Callable[[str, str], None]], Mapping[str, str]]
"""``ask(prompts, answered)``: ask about every prompt, call ``answered(prompt, answer)`` as each comes in, return why
there was none for those that got none. Raises ``ModelError`` when the model fails as a whole."""


@dataclass(frozen=True, slots=True)
class JudgeReport:
    """What came of a run.

    Args:
        grades: Query id → document id → grade.
        asked: Questions that were sent now.
        cached: Pairs that were answered before.
        ungraded: Query id, document id, answer: of those whose answer holds no grade.
        failed: Query id, document id, reason: of those without an answer.
    """

    grades: dict[str, dict[str, int]]
    asked: int
    cached: int
    ungraded: tuple[tuple[str, str, str], ...]
    failed: tuple[tuple[str, str, str], ...]


class AnswerCache:
    """The answers so far: an append-only JSONL, one answer a line. Close it in the end.

    A last line that a kill has torn is cut off; a line that is damaged otherwise is an error, since nobody knows what
    it said.

    Args:
        path: The file; made if it is not there.
        identity: What decides an answer beside the prompt: model, sampling.

    Raises:
        DatasetError: It is no such file, is damaged, cannot be written, or another run is writing it.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self._path, self._identity = path, dict(identity)
        self._salt = orjson.dumps([PROMPT_VERSION, SYSTEM, self._identity], option=orjson.OPT_SORT_KEYS)
        self._answers: dict[str, str] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = path.open("ab")
        except OSError as exc:
            raise DatasetError(f"cannot be written: {exc.strerror or exc}", path=path) from exc
        try:
            self._claim()
            self._restore()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> AnswerCache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def get(self, prompt: str) -> str | None:
        """Return the answer to a prompt, if there is one."""
        return self._answers.get(self._key(prompt))

    def put(self, prompt: str, answer: str, pair: Pair) -> None:
        """Note an answer; it is handed to the system when this returns."""
        key = self._key(prompt)
        row = {"key": key, "qid": pair.query_id, "doc_id": pair.doc_id, "answer": answer, "grade": parse_grade(answer)}
        row |= {"prompt": PROMPT_VERSION} | self._identity
        self._file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        self._file.flush()
        self._answers[key] = answer

    def _key(self, prompt: str) -> str:
        return hashlib.blake2b(self._salt + b"\0" + prompt.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    def _claim(self) -> None:
        try:
            claim(self._file)
        except OSError as exc:
            raise DatasetError(
                "another run is writing this cache", path=self._path, hint="wait for it, or give another --cache"
            ) from exc

    def _restore(self) -> None:
        end = 0
        with self._path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    break  # torn by the kill
                try:
                    row = orjson.loads(line)
                    self._answers[row["key"]] = row["answer"]
                except (orjson.JSONDecodeError, KeyError, TypeError) as exc:
                    raise DatasetError(
                        "is no line of a judge's cache",
                        path=self._path,
                        line=number,
                        hint="remove the line, and that pair is asked again; or give another --cache",
                    ) from exc
                end += len(line)
        self._file.truncate(end)


def parse_grade(answer: str) -> int | None:
    """Return the grade of an answer, thinking left out: the one it calls so last, or the only one that stands in it.

    An answer with several ("0, 1") grades nothing: which is meant would be our guess.

    >>> [parse_grade(answer) for answer in ("2.", "<think>3?</think> 1", "0 to 3: the grade is 2", "0, 1")]
    [2, 1, 2, None]
    """
    text = without_thinking(answer)
    found = _LABELLED.findall(text) or sorted(set(_GRADE.findall(text)))
    return int(found[-1]) if found and (len(found) == 1 or _LABELLED.search(text)) else None


def judge_pairs(
    pairs: Sequence[Pair], ask: Ask, cache: AnswerCache, *, on_progress: Callable[[int, int], None] = lambda *_: None
) -> JudgeReport:
    """Return the grades of all pairs; asks only what the cache does not know.

    Args:
        pairs: What is judged; equal prompts are asked once.
        ask: The model.
        cache: The answers so far.
        on_progress: Told pairs answered and pairs in all.

    Raises:
        ModelError: The model failed as a whole; what it had answered is in the cache.
    """
    by_prompt: dict[str, Pair] = {}
    for pair in pairs:
        if cache.get(pair.prompt) is None:
            by_prompt.setdefault(pair.prompt, pair)
    cached = sum(cache.get(pair.prompt) is not None for pair in pairs)
    done = 0

    def answered(prompt: str, answer: str) -> None:
        nonlocal done
        cache.put(prompt, answer, by_prompt[prompt])
        done += 1
        on_progress(len(pairs) - len(by_prompt) + done, len(pairs))

    on_progress(len(pairs) - len(by_prompt), len(pairs))
    failures = ask(list(by_prompt), answered) if by_prompt else {}
    return _report(pairs, cache, asked=done, cached=cached, failures=failures)


def estimate_tokens(pairs: Sequence[Pair], *, max_tokens: int) -> dict[str, int]:
    """Return about how many tokens the questions hold and the answers may; four characters count as one."""
    chars = sum(len(pair.prompt) + len(SYSTEM) for pair in pairs)
    return {"prompt_tokens": chars // _CHARS_PER_TOKEN, "completion_tokens_at_most": len(pairs) * max_tokens}


def count_open(pairs: Sequence[Pair], cache: AnswerCache) -> list[Pair]:
    """Return the pairs that would be asked."""
    found = {pair.prompt: pair for pair in reversed(pairs) if cache.get(pair.prompt) is None}
    return list(reversed(found.values()))


def check_pairs(pairs: Sequence[Pair]) -> None:
    """Raise ``InputError`` when there is nothing to judge."""
    if not pairs:
        raise InputError("no candidate to judge", hint="do the candidates' query ids stand in --queries?")


def _report(
    pairs: Sequence[Pair], cache: AnswerCache, *, asked: int, cached: int, failures: Mapping[str, str]
) -> JudgeReport:
    grades: dict[str, dict[str, int]] = {}
    ungraded, failed = [], []
    for pair in pairs:
        answer = cache.get(pair.prompt)
        grade = None if answer is None else parse_grade(answer)
        if grade is not None:
            grades.setdefault(pair.query_id, {})[pair.doc_id] = grade
        elif answer is not None:
            ungraded.append((pair.query_id, pair.doc_id, " ".join(answer.split())[:200]))
        else:
            failed.append((pair.query_id, pair.doc_id, failures.get(pair.prompt, "no answer")))
    return JudgeReport(grades, asked, cached, tuple(ungraded), tuple(failed))
