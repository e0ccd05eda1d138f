"""TREC topics: the classic ``<top>`` files, whose tags are never closed, and the XML of later tracks.

The XML is read with every door shut: a DTD, and so every entity of its own, is refused before it is looked at.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from xml.parsers import expat

from lrem_os.errors import DatasetError
from lrem_os.eval.tables import Row

_TAG = re.compile(r"<(/?)([A-Za-z][\w-]*)[^>]*>")
_LABEL = re.compile(r"^\s*(number|topic|num)\s*:\s*", re.IGNORECASE)
_ID_NAMES = ("num", "number", "id", "qid", "topic-id")
_TEXT_NAMES = ("title", "query", "text")
_HINT = (
    "a topic is <top> <num> Number: 301 <title> red bag </top>, or <topic number='301'><query>red bag</query></topic>"
)


def read_topics(lines: Sequence[tuple[int, str]], path: str) -> list[Row]:
    """Return the topics as rows with ``qid`` and ``query``; descriptions and narratives are left out.

    Raises:
        DatasetError: The file is no well-formed XML, has a DTD, or a topic has no number or no title.
    """
    for number, text in lines:
        if re.search(r"<!(DOCTYPE|ENTITY)", text, re.IGNORECASE):
            raise DatasetError(
                "the file has a document type (DTD), which is refused", path=path, line=number, hint="remove it"
            )
    first = next((match[2].lower() for _, text in lines if (match := _TAG.search(text))), "")
    topics = _classic(lines) if first == "top" else _xml(lines, path)
    rows = [_row(topic, line, path) for line, topic in topics]
    if not rows:
        raise DatasetError("no topic in the file", path=path, hint=_HINT)
    return rows


def _classic(lines: Sequence[tuple[int, str]]) -> list[tuple[int, dict[str, str]]]:
    """A field reaches to the next tag, closed or not."""
    topics: list[tuple[int, dict[str, str]]] = []
    field = ""
    for number, text in lines:
        end = 0
        for tag in _TAG.finditer(text):
            _append(topics, field, text[end : tag.start()])
            end = tag.end()
            field = "" if tag[1] else tag[2].lower()
            if field == "top":
                topics.append((number, {}))
        _append(topics, field, text[end:] + " ")
    return topics


def _append(topics: list[tuple[int, dict[str, str]]], field: str, text: str) -> None:
    if topics and field:
        topics[-1][1][field] = topics[-1][1].get(field, "") + html.unescape(text)


class _Reader:
    """Collects the topics of an XML document: the elements below the root."""

    def __init__(self) -> None:
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._text
        self.topics: list[tuple[int, dict[str, str]]] = []
        self._open: list[str] = []

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._open.append(name.lower())
        if len(self._open) == 2:
            self.topics.append((self.parser.CurrentLineNumber, {key.lower(): text for key, text in attributes.items()}))

    def _end(self, _name: str) -> None:
        self._open.pop()

    def _text(self, data: str) -> None:
        if len(self._open) in (2, 3):
            name = self._open[2] if len(self._open) == 3 else ""
            topic = self.topics[-1][1]
            topic[name] = topic.get(name, "") + data


def _xml(lines: Sequence[tuple[int, str]], path: str) -> list[tuple[int, dict[str, str]]]:
    reader = _Reader()
    try:
        reader.parser.Parse("\n".join(text for _, text in lines), True)
    except expat.ExpatError as exc:
        raise DatasetError(
            f"broken XML: {expat.ErrorString(exc.code)} at column {exc.offset + 1}",
            path=path,
            line=lines[min(exc.lineno, len(lines)) - 1][0],
            hint=_HINT,
        ) from exc
    return [(lines[line - 1][0], topic) for line, topic in reader.topics]


def _row(topic: dict[str, str], line: int, path: str) -> Row:
    found = {name: " ".join(_LABEL.sub("", text).split()) for name, text in topic.items()}
    qid = next((found[name] for name in _ID_NAMES if found.get(name)), "")
    query = next((found[name] for name in (*_TEXT_NAMES, "") if found.get(name)), "")
    if not qid or not query:
        fields = ", ".join(sorted(found.keys() - {"", "top"})) or "nothing"
        raise DatasetError(
            f"the topic has no {'title' if qid else 'number'}; it has {fields}", path=path, line=line, hint=_HINT
        )
    return Row(line, {"qid": qid, "query": query})
