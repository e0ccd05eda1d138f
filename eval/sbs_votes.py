"""Reading what judges exported, and the key to it; whatever does not fit is refused by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from lrem_os.errors import DatasetError
from lrem_os.eval.sbs import KEY_SCHEMA, VOTES_SCHEMA

CHOICES = ("left", "same", "right", "skip")
KEY_SUFFIX = ".key.json"


@dataclass(frozen=True, slots=True)
class Key:
    """Which run stood where.

    Args:
        sheet: Id of the sheet.
        runs: First and second.
        left: Shown query → the run that stood left.
        types: Query → its type, of those that both runs answer alike too.
        alike: Queries that were not shown because both runs answer them alike.
    """

    sheet: str
    runs: tuple[str, str]
    left: Mapping[str, str]
    types: Mapping[str, str]
    alike: tuple[str, ...]

    def value(self, query_id: str, choice: str) -> int:
        """Return +1 for a vote for the second run, −1 for the first, 0 for neither."""
        if choice == "same":
            return 0
        second_is_left = self.left[query_id] == self.runs[1]
        return 1 if second_is_left == (choice == "left") else -1


@dataclass(frozen=True, slots=True)
class Votes:
    """What one judge decided.

    Args:
        path: The file.
        judge: The name given.
        choices: Query → ``left``, ``same``, ``right`` or ``skip``.
    """

    path: str
    judge: str
    choices: Mapping[str, str]


def read_key(path: str | Path) -> Key:
    """Return the key of a sheet.

    Raises:
        DatasetError: It cannot be read, or is no key.
    """
    value = _load(path, KEY_SCHEMA, "the key that lrem-os eval sbs wrote beside the sheet")
    try:
        pairs, alike = value["pairs"], value["same"]
        first, second = value["runs"]
        left = {query_id: pair["left"] for query_id, pair in pairs.items()}
        types = {query_id: found["type"] for query_id, found in (pairs | alike).items()}
        key = Key(value["sheet"], (first, second), left, types, tuple(alike))
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise DatasetError(f"a damaged key: {exc!r}", path=path, hint="make the sheet again") from exc
    wrong = sorted(set(left.values()) - {first, second})
    if wrong:
        raise DatasetError(f"a damaged key: {wrong[0]!r} is none of its runs {first!r}, {second!r}", path=path)
    return key


def find_key(sheets: Sequence[str | Path]) -> Path:
    """Return the only key in the folders of the sheets and the working directory.

    Raises:
        DatasetError: There is none, or more than one.
    """
    folders = dict.fromkeys(folder.resolve() for folder in (*(Path(sheet).parent for sheet in sheets), Path()))
    found = [path for folder in folders for path in sorted(folder.glob(f"*{KEY_SUFFIX}"))]
    if len(found) != 1:
        names = f"{len(found)} keys lie there: {', '.join(path.name for path in found)}" if found else "no key there"
        raise DatasetError(f"which run stood left? {names}", path=Path(sheets[0]).parent, hint="name it: --key FILE")
    return found[0]


def read_votes(paths: Sequence[str | Path], key: Key) -> list[Votes]:
    """Return what the judges decided, a file each.

    Raises:
        DatasetError: A file cannot be read, belongs to another sheet, names an unknown query or choice or one query
            twice; or two files come from one judge.
    """
    sheets: list[Votes] = []
    for path in paths:
        votes = _votes(path, key)
        for other in sheets:
            if other.judge.casefold() == votes.judge.casefold():
                raise DatasetError(
                    f"judge {votes.judge!r} has already voted in {other.path}",
                    path=path,
                    hint="keep one file a judge, or correct the name in one",
                )
        sheets.append(votes)
    return sheets


def _votes(path: str | Path, key: Key) -> Votes:
    value = _load(path, VOTES_SCHEMA, "the votes that a judge exported from the sheet")
    if value.get("sheet") != key.sheet:
        raise DatasetError(
            f"votes on the sheet {value.get('sheet')!r}, but the key is of {key.sheet!r}",
            path=path,
            hint="sheet and key are made together: find the key of this sheet",
        )
    judge, votes = value.get("judge"), value.get("votes")
    if not isinstance(judge, str) or not judge.strip():
        raise DatasetError(f"judge is {judge!r}: want a name", path=path)
    if not isinstance(votes, list):
        raise DatasetError(f"votes is {votes!r:.60}: want a list", path=path)
    choices: dict[str, str] = {}
    for number, vote in enumerate(votes, 1):
        query_id, choice = (vote.get("query_id"), vote.get("choice")) if isinstance(vote, dict) else (None, None)
        if not isinstance(query_id, str) or query_id not in key.left:
            raise DatasetError(f"vote {number}: query {query_id!r} is not in the sheet", path=path)
        if choice not in CHOICES:
            raise DatasetError(
                f"vote {number}, query {query_id!r}: choice {choice!r}; want {', '.join(CHOICES)}", path=path
            )
        if query_id in choices:
            raise DatasetError(f"vote {number}: query {query_id!r} is voted on twice", path=path)
        choices[query_id] = choice
    return Votes(str(path), judge.strip(), choices)


def _load(path: str | Path, schema: str, what: str) -> dict[str, Any]:
    try:
        value = orjson.loads(Path(path).read_bytes())
    except OSError as exc:
        raise DatasetError(f"cannot read it: {exc.strerror or exc}", path=path, hint=f"name {what}") from exc
    except orjson.JSONDecodeError as exc:
        raise DatasetError(f"broken JSON: {exc}", path=path, hint=f"name {what}") from exc
    found = value.get("schema") if isinstance(value, dict) else None
    if found != schema:
        raise DatasetError(f"schema is {found!r}, want {schema!r}", path=path, hint=f"name {what}")
    checked: dict[str, Any] = value
    return checked
