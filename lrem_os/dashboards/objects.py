"""Saved objects of OpenSearch Dashboards as plain values, and the ``.ndjson`` that its import takes. Pure.

An object refers to others by name, and says under ``references`` which they are: that is how Dashboards finds what is
missing, and how an id can be changed.

Source: OpenSearch Dashboards 2.8 to 3.x, ``saved_objects`` and the migrations of each type: the versions written here
are the newest that all of them know, so that no migration runs and what was sent is what is stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

Kind = Literal["index-pattern", "visualization", "search", "dashboard"]

_VERSIONS: Mapping[Kind, str] = {
    "index-pattern": "7.6.0",
    "visualization": "7.10.0",
    "search": "7.9.3",
    "dashboard": "7.9.3",
}
INDEX_REFERENCE = "kibanaSavedObjectMeta.searchSourceJSON.index"


@dataclass(frozen=True, slots=True)
class Reference:
    """One object's way to another."""

    name: str
    kind: Kind
    object_id: str


@dataclass(frozen=True, slots=True)
class SavedObject:
    """What Dashboards stores.

    Args:
        kind: Its type there.
        object_id: Unique among all of its type.
        title: As it is listed.
        attributes: The rest of them; values that Dashboards holds as JSON in a string are that already.
        references: To other objects.
    """

    kind: Kind
    object_id: str
    title: str
    attributes: Mapping[str, Any]
    references: tuple[Reference, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as one line of the file holds it."""
        return {
            "id": self.object_id,
            "type": self.kind,
            "attributes": {"title": self.title, **self.attributes},
            "references": [{"name": ref.name, "type": ref.kind, "id": ref.object_id} for ref in self.references],
            "migrationVersion": {self.kind: _VERSIONS[self.kind]},
        }


@dataclass(frozen=True, slots=True)
class Source:
    """Indices that panels read: an index pattern.

    Args:
        object_id: Of the saved object.
        title: The pattern itself.
        time_field: What the time picker moves.
        mapping: Properties of the indices, as their template has them.
        formats: Field → how Dashboards shows its values; those of other fields do not count.
    """

    object_id: str
    title: str
    time_field: str
    mapping: Mapping[str, Any]
    formats: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def saved(self) -> SavedObject:
        """Return the object, with the whole list of fields: without one, Dashboards makes it at the first view."""
        kinds = fields_of(self.mapping)
        fields = [_field(name, kind) for name, kind in sorted(kinds.items())]
        formats = {name: form for name, form in self.formats.items() if name in kinds}
        attributes = {"timeFieldName": self.time_field, "fields": packed(fields), "fieldFormatMap": packed(formats)}
        return SavedObject("index-pattern", self.object_id, self.title, attributes)


def packed(value: object) -> str:
    """Return JSON as text, as most attributes want it."""
    return orjson.dumps(value).decode()


def to_ndjson(objects: Iterable[SavedObject]) -> bytes:
    """Return the file that the import takes."""
    return b"".join(orjson.dumps(one.to_dict()) + b"\n" for one in objects)


def search_source(query: str = "", *, has_index: bool = True) -> dict[str, str]:
    """Return ``kibanaSavedObjectMeta``: a filter in Dashboards' own language, on the index that the references name."""
    source: dict[str, Any] = {"query": {"query": query, "language": "kuery"}, "filter": []}
    if has_index:
        source["indexRefName"] = INDEX_REFERENCE
    return {"searchSourceJSON": packed(source)}


def fields_of(mapping: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return the type of every field of a mapping's properties, by its full name.

    >>> fields_of({"a": {"type": "text", "fields": {"keyword": {"type": "keyword"}}}, "b": {"properties": {"c": {"type":
    ... "long"}}}})
    {'a': 'text', 'a.keyword': 'keyword', 'b.c': 'long'}
    """
    found: dict[str, str] = {}
    for name, body in mapping.items():
        path = prefix + name
        if "properties" in body:
            found |= fields_of(body["properties"], f"{path}.")
        elif body.get("type", "object") != "object":
            found[path] = body["type"]
        found |= fields_of(body.get("fields", {}), f"{path}.")
    return found


_KINDS = {
    "keyword": "string",
    "text": "string",
    "date": "date",
    "float": "number",
    "double": "number",
    "long": "number",
    "boolean": "boolean",
    "flat_object": "unknown",
}


def _field(name: str, kind: str) -> dict[str, Any]:
    has_values = kind not in ("text", "flat_object")
    return {
        "name": name,
        "type": _KINDS[kind],
        "esTypes": [kind],
        "count": 0,
        "scripted": False,
        "searchable": True,
        "aggregatable": has_values,
        "readFromDocValues": has_values,
    }


def references_of(names: Sequence[tuple[str, SavedObject]]) -> tuple[Reference, ...]:
    """Return references under these names."""
    return tuple(Reference(name, one.kind, one.object_id) for name, one in names)
