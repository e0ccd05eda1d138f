"""Search bodies with something wrong in them: values and structure changed, then bytes. One seed, the same bodies.

What could break the cluster itself is left out (a histogram with a tiny interval fills its heap): it is the service
that is on trial.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

Path = tuple[str | int, ...]

_NUMBERS = ("-1", "0", "-0", "1e0", "1.5", "10001", "65536", "2147483648", "9007199254740993", "9223372036854775808")
_ODD_NUMBERS = ("18446744073709551616", "1e400", "-1e-400", "1E-7", "9" * 400, "0.1000000000000000055", "NaN", "01")
_STRINGS = (
    *("", " ", "*", "_all", "red", "neural", "query_text", "lrem_vector", "title", "price", "true", "null", "1", "-"),
    *(
        "\x00",
        "\ud800",
        "\udc00x",
        "👜",
        "e\u0301",
        "\u202ebag",
        "\ufeff",
        "a" * 3000,
        "{}",
        '"',
        "\\",
        "\n",
        "%s",
        "${x}",
    ),
)
_KEYS = (
    *(
        "query",
        "neural",
        "knn",
        "hybrid",
        "queries",
        "bool",
        "must",
        "filter",
        "ext",
        "lrem",
        "ubi",
        "script",
        "params",
    ),
    *("size", "sort", "pit", "", "lrem_vector", "query_text", "k", "vector", "search_pipeline", "\ud800", "x" * 300),
)
_DANGEROUS = (b"histogram", b"scripted_metric", b"shard_size", b"quick")
_MARK = "\x01number:"


class Mutator:
    """Makes bodies.

    Args:
        seed: The same gives the same.
        plain: Bodies to begin with.
        ours: Bodies with a clause of the service.
    """

    def __init__(self, seed: int, plain: Sequence[bytes], ours: Sequence[bytes]) -> None:
        self.random = random.Random(seed)
        self._plain, self._ours = _safe(plain), _safe(ours)

    def body(self) -> bytes:
        """Return a body whose structure is changed, and sometimes its bytes."""
        seeds = self._ours if self.random.random() < 0.5 else self._plain
        value = json.loads(self.random.choice(seeds))
        for _ in range(self.random.choice((0, 1, 1, 1, 2, 6))):
            value = self._changed(value)
        try:
            data = _written(value)
        except RecursionError:  # the deep in the deep
            data = b'{"query":' + b'{"bool":{"must":' * 400 + _written(self.clause()) + b"}}" * 400 + b"}"
        return self.bytes_of(data) if self.random.random() < 0.15 else data

    def bytes_of(self, data: bytes) -> bytes:
        """Return the data with some bytes flipped, cut, doubled or put in."""
        pick = self.random
        for _ in range(pick.choice((1, 1, 2, 5))):
            at = pick.randrange(len(data) + 1)
            then = min(len(data), at + pick.randrange(1, 30))
            one = bytes([pick.choice((0, 9, 10, 34, 44, 58, 91, 92, 93, 123, 125, 127, 128, 192, 255))])
            data = pick.choice(
                (
                    data[:at],
                    data[:at] + one + data[at + 1 :],
                    data[:at] + data[then:],
                    data[:then] + data[at:],
                    data[:at] + one + data[at:],
                )
            )
        return data

    def value(self) -> Any:
        """Return a value of any kind."""
        pick = self.random
        kind = pick.random()
        if kind < 0.3:
            return _MARK + pick.choice(_NUMBERS)
        if kind < 0.4:
            return _MARK + pick.choice(_ODD_NUMBERS)
        if kind < 0.6:
            return pick.choice(_STRINGS)
        if kind < 0.7:
            return pick.choice((None, True, False))
        if kind < 0.8:
            return pick.choice(([], {}, [[]], [{}], [None]))
        return self.clause()

    def clause(self) -> dict[str, Any]:
        """Return a clause of ours, or almost one."""
        pick = self.random
        inner: dict[str, Any] = {"query_text": pick.choice(_STRINGS), "k": 3}
        if pick.random() < 0.4:
            inner[pick.choice((*_KEYS, "min_score", "boost"))] = _MARK + pick.choice((*_NUMBERS, *_ODD_NUMBERS))
        return {"neural": {pick.choice(("lrem_vector", "lrem_vector", "lrem_vector", "other", "")): inner}}

    def _changed(self, value: Any) -> Any:
        paths = list(_paths(value))
        path = max(self.random.choices(paths, k=2), key=len)  # deep ones rather: at the top everything is refused
        ways: tuple[Callable[[Any], Any], ...] = (
            lambda _old: self.value(),
            lambda _old: self.value(),
            lambda _old: self.clause(),
            lambda _old: _at(value, self.random.choice(paths)),
            lambda old: [old, old],
            lambda old: {self.random.choice(_KEYS): old},
            lambda old: {"bool": {self.random.choice(("must", "should", "filter")): [old, self.clause()]}},
            lambda old: {"hybrid": {"queries": [old, self.clause()]}},
            self._deep,
            self._without_one,
            self._with_one,
            self._renamed,
        )
        return _replaced(value, path, self.random.choice(ways)(_at(value, path)))

    def _deep(self, old: Any) -> Any:
        for _ in range(self.random.choice((3, 20, 90, 120, 300))):
            old = [old] if self.random.random() < 0.5 else {"bool": {"must": old}}
        return old

    def _without_one(self, old: Any) -> Any:
        if isinstance(old, dict) and old:
            gone = self.random.choice(list(old))
            return {key: item for key, item in old.items() if key != gone}
        return old[1:] if isinstance(old, list) else None

    def _with_one(self, old: Any) -> Any:
        if isinstance(old, dict):
            return {**old, self.random.choice(_KEYS): self.value()}
        return [*old, self.value()] if isinstance(old, list) else self.value()

    def _renamed(self, old: Any) -> Any:
        if not isinstance(old, dict) or not old:
            return self.value()
        name = self.random.choice(list(old))
        return {self.random.choice(_KEYS) if key == name else key: item for key, item in old.items()}


def _safe(bodies: Sequence[bytes]) -> list[bytes]:
    """Return those that are JSON objects and small, and cannot hurt the cluster."""
    found = []
    for body in bodies:
        if len(body) > 1500 or any(word in body for word in _DANGEROUS):
            continue
        try:
            value = json.loads(body)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(body)
    return found


def _paths(value: Any, path: Path = ()) -> Iterator[Path]:
    yield path
    if len(path) > 40:
        return
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _paths(item, (*path, key))
    elif isinstance(value, list):
        for at, item in enumerate(value):
            yield from _paths(item, (*path, at))


def _at(value: Any, path: Path) -> Any:
    for step in path:
        value = value[step]
    return value


def _replaced(value: Any, path: Path, new: Any) -> Any:
    if not path:
        return new
    step, *rest = path
    if isinstance(value, dict):
        return {**value, step: _replaced(value[step], tuple(rest), new)}
    return [_replaced(item, tuple(rest), new) if at == step else item for at, item in enumerate(value)]


def _written(value: Any) -> bytes:
    """Return JSON with numbers as they are marked; halves of surrogate pairs are escapes."""
    parts = json.dumps(value).split('"' + _MARK.replace("\x01", "\\u0001"))
    if len(parts) == 1:
        return parts[0].encode()
    numbers = [part.split('"', 1) for part in parts[1:]]
    return (parts[0] + "".join(number + rest for number, rest in numbers)).encode()
