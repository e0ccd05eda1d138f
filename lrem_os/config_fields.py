"""What the configuration models say about their own keys: names, kinds, allowed values, and which are secret.

The command line, the written template, the reference page and the complaints all describe a key with these, so they
cannot disagree. Functions of a model class; the models themselves are in ``lrem_os.config``.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from lrem_os.config_layers import Kind

MASK = "********"

_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Path: "a path"}
_BOUNDS = {Ge: ("ge", ">= {}"), Gt: ("gt", "> {}"), Le: ("le", "<= {}"), Lt: ("lt", "< {}")}


class Section(BaseModel):
    """A part of the configuration: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_yes_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """``candidates: yes`` would be 1: Python's booleans are integers."""
        annotation = str(cls.model_fields[info.field_name or ""].annotation)
        if isinstance(value, bool) and "bool" not in annotation:
            raise ValueError("true and false are not among its values")
        return value


def sections_of(settings: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """Return the section models by name, in the order they are declared."""
    return {
        name: field.annotation
        for name, field in settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }


def keys_of(settings: type[BaseModel]) -> list[str]:
    """Return every ``section.key``, in the order they are declared."""
    return [f"{name}.{key}" for name, section in sections_of(settings).items() for key in section.model_fields]


def field_of(settings: type[BaseModel], key: str) -> FieldInfo:
    """Return the declaration of a ``section.key``."""
    section, name = key.split(".")
    return sections_of(settings)[section].model_fields[name]


def kind_of(field: FieldInfo) -> Kind:
    """Return how the plain text of a variable or of ``--set`` is to be read for this field."""
    parts = [part for part in _alternatives(field.annotation) if part is not type(None)]
    if SecretStr in parts:
        return "secret"
    if all(part in (str, Path) or get_origin(part) is Literal for part in parts):
        return "text"
    return "texts" if all(get_origin(part) is tuple and get_args(part)[0] is str for part in parts) else "other"


def allowed_values(field: FieldInfo) -> str:
    """Return in words what a field may hold.

    >>> from lrem_os.config import IngestSettings
    >>> allowed_values(IngestSettings.model_fields["senders"])
    'a whole number from 1 to 64'
    """
    return _describe(field.annotation, list(field.metadata))


def masked(settings: type[BaseModel], key: str, value: Any) -> Any:
    """Return a value fit to be shown: secrets hidden, passwords in URLs too, the rest as YAML and JSON have it."""
    if value is None:
        return None
    if kind_of(field_of(settings, key)) == "secret":
        return MASK
    return _plain(value)


def without_userinfo(text: str) -> str:
    """Return a text with the credentials of its URLs hidden.

    >>> without_userinfo("https://admin:secret@search:9200")
    'https://********@search:9200'
    """
    return re.sub(r"[^\s/@'\"]+:[^\s/@'\"]*@", f"{MASK}@", text)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return _plain(value.model_dump(mode="json", exclude_defaults=True))
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return without_userinfo(str(value)) if isinstance(value, (str, Path)) else value


def _alternatives(annotation: Any) -> Iterator[Any]:
    """Yield the members of ``X | None`` (or the annotation itself), without ``Annotated`` around them."""
    if get_origin(annotation) is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from _alternatives(part)
    else:
        yield annotation


def _describe(annotation: Any, limits: list[Any]) -> str:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _describe(args[0], [*args[1:], *limits])
    if origin in (Union, types.UnionType):
        described = [_describe(part, limits) for part in args if part is not type(None)]
        return " or ".join([*described, "null"] if type(None) in args else described)
    if origin is Literal:
        return ", ".join(map(str, args))
    if origin is tuple and args[-1] is Ellipsis:
        return f"a list of {_plural(args[0])}"
    if origin is tuple:
        return f"a list of {len(args)}, each {_describe(args[0], [])}"
    if origin is dict:
        return f"a mapping of names to {_plural(args[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"mappings with {', '.join(annotation.model_fields)}"
    return " ".join(filter(None, ["text" if annotation is SecretStr else _NAMES[annotation], _limits(limits)]))


def _plural(annotation: Any) -> str:
    """Return "text", "numbers > 0"."""
    described = _describe(annotation, [])
    return re.sub(r"^a (\w+)", r"\1s", described)


def _limits(limits: list[Any]) -> str:
    """Return "from 1 to 10", "> 0", "like ^[a-z]+$"."""
    flat = [part for item in limits for part in (item.metadata if isinstance(item, FieldInfo) else [item])]
    lowest, highest = [i for i in flat if isinstance(i, Ge)], [i for i in flat if isinstance(i, Le)]
    if lowest and highest:
        return f"from {lowest[0].ge} to {highest[0].le}"
    bounds = [(item, *_BOUNDS[type(item)]) for item in flat if type(item) in _BOUNDS]
    words = [form.format(getattr(item, name)) for item, name, form in bounds]
    words += [f"of {item.min_length} character or more" for item in flat if isinstance(item, MinLen)]
    words += [f"like {item.pattern}" for item in flat if getattr(item, "pattern", None)]
    return " and ".join(words)
