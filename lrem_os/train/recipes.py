"""Reading a recipe: YAML and ``--set`` to a checked model; a complaint names the file, the line, the key, the value."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from lrem_os.config_fields import allowed_values
from lrem_os.errors import ConfigError
from lrem_os.train.settings import AnyRecipe, Recipe

Sources = dict[str, str]
"""Where each dotted key was written: ``FILE:LINE`` or ``--set``."""

STAGES: Mapping[str, type[Recipe]] = {
    get_args(kind.model_fields["stage"].annotation)[0]: kind for kind in get_args(get_args(AnyRecipe)[0])
}
"""The recipe of every stage, by its name."""


def load_recipe(path: str | Path, overrides: Sequence[str] = (), *, stage: str | None = None) -> Recipe:
    """Return the recipe in a YAML file.

    Args:
        path: The file.
        overrides: ``key.key=value``, the value in YAML.
        stage: What it must be a recipe of; none: any stage.

    Raises:
        ConfigError: The file cannot be read, a key does not exist, or a value cannot be used.
    """
    tree, sources = _read(Path(path))
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {override}: no '='", hint="write --set key.key=value")
        _put(tree, key.strip().split("."), _value(text))
        sources[key.strip()] = f"--set {key.strip()}"
    found, where = tree.get("stage"), sources.get("stage", str(path))
    if not isinstance(found, str) or found not in STAGES:
        raise ConfigError(f"{where}: stage is {found!r}; allowed: {', '.join(STAGES)}")
    if stage not in (None, found):
        raise ConfigError(f"{where}: stage is {found}, not {stage}", hint=f"lrem-os train {found} {path}")
    try:
        return STAGES[found].model_validate(tree)
    except ValidationError as exc:
        problems = [_problem(error, STAGES[found], sources, str(path)) for error in exc.errors(include_url=False)]
        raise ConfigError("\n       ".join(dict.fromkeys(problems))) from None


def recipe_text(recipe: Recipe) -> str:
    """Return a recipe as YAML that ``load_recipe`` reads back, without the place of the data on this machine."""
    values = recipe.model_dump(mode="json")
    values["data"].pop("root")
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _read(path: Path) -> tuple[dict[str, Any], Sources]:
    try:
        loader = yaml.SafeLoader(path.read_bytes().decode("utf-8-sig"))
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise ConfigError(f"{path}: a recipe is a mapping of names to values")
        tree: dict[str, Any] = {}
        sources: Sources = {}
        for key, node in _leaves(root, (), path):
            _put(tree, key, loader.construct_object(node, deep=True))
            sources[".".join(key)] = f"{path}:{node.start_mark.line + 1}"
        return tree, sources
    except OSError as exc:
        raise ConfigError(f"the recipe {path} cannot be read: {exc.strerror}", hint="recipes/ holds examples") from exc
    except yaml.MarkedYAMLError as exc:
        line = "" if exc.problem_mark is None else f":{exc.problem_mark.line + 1}"
        raise ConfigError(f"{path}{line}: not valid YAML: {exc.problem}") from exc
    except (yaml.YAMLError, ValueError, RecursionError) as exc:  # ValueError: not UTF-8, or a date such as 2024-13-45
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(exc).split())}") from exc


def _leaves(node: yaml.MappingNode, above: tuple[str, ...], path: Path) -> Iterator[tuple[tuple[str, ...], yaml.Node]]:
    """Yield every value that is no mapping, with its path of keys."""
    seen: set[str] = set()
    for name, value in node.value:
        where = f"{path}:{name.start_mark.line + 1}"
        if not isinstance(name, yaml.ScalarNode):
            raise ConfigError(f"{where}: a name must be plain text")
        if name.value in seen:
            raise ConfigError(f"{where}: {name.value!r} stands twice: keep one")
        seen.add(name.value)
        if isinstance(value, yaml.MappingNode) and value.value:
            yield from _leaves(value, (*above, name.value), path)
        else:
            yield (*above, name.value), value


def _put(tree: dict[str, Any], key: Sequence[str], value: Any) -> None:
    for part in key[:-1]:
        inner = tree.get(part)
        if not isinstance(inner, dict):
            inner = tree[part] = {}
        tree = inner
    tree[key[-1]] = value


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text  # the model refuses it, and names the key


def _problem(error: Any, recipe: type[Recipe], sources: Sources, path: str) -> str:
    """Say which key is wrong, where it was written, what it is, and what it may be."""
    parts = [str(part) for part in error["loc"]]
    key, reason = ".".join(parts), str(error["msg"]).removeprefix("Value error, ")
    where = next((sources[".".join(parts[:n])] for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in sources), "")
    if not where:  # the first value written below it
        where = next((place for name, place in sources.items() if name.startswith(f"{key}.")), path)
    if error["type"] == "missing":
        return f"{path}: {key} is missing"
    if error["type"] == "extra_forbidden":
        known = _keys(recipe, parts[:-1])
        close = difflib.get_close_matches(parts[-1], known, n=1, cutoff=0.6)
        meant = f"did you mean {close[0]}?" if close else f"there are: {', '.join(known)}"
        return f"{where}: no key {key!r}; {meant}"
    field = _field(recipe, parts)
    allowed = f"; allowed: {allowed_values(field)}" if field is not None else ""
    return f"{where}: {key} is {error['input']!r:.200}: {reason}{allowed}"


def _keys(model: type[BaseModel], parts: Sequence[str]) -> list[str]:
    for part in parts:
        model = _model_of(model.model_fields[part]) or model
    return list(model.model_fields)


def _field(model: type[BaseModel], parts: Sequence[str]) -> FieldInfo | None:
    """Return the declaration of a value; none where it is not a single one."""
    for part in parts:
        field = model.model_fields.get(part)
        if field is None:
            return None
        inner = _model_of(field)
        if inner is None:
            return field
        model = inner
    return None


def _model_of(field: FieldInfo) -> type[BaseModel] | None:
    """Return the section that a field holds, if it holds one."""
    kinds = [field.annotation, *get_args(field.annotation)]
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
