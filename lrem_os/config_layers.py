"""The three places a configuration value can be written: a YAML file, the environment, ``--set``.

Each is read into a layer, a mapping of ``section.key`` to the value and where it was written, so that a later complaint
names the place. What a value may be is not decided here but by the models in ``lrem_os.config``, which calls this.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from lrem_os.errors import ConfigError

ENV_PREFIX = "LREM_OS__"

Kind = Literal["text", "secret", "texts", "other"]
"""How the text of a variable or of ``--set`` is read for a key: see ``_parse``."""


@dataclass(frozen=True, slots=True)
class Written:
    """A value as somebody wrote it.

    Args:
        value: What was written, parsed from YAML.
        source: Where: ``FILE:LINE``, ``env NAME`` or ``--set``.
    """

    value: Any
    source: str


Layer = dict[str, Written]


def env_name(key: str) -> str:
    """Return the variable that sets a key.

    >>> env_name("search.timeout_s")
    'LREM_OS__SEARCH__TIMEOUT_S'
    """
    return ENV_PREFIX + key.upper().replace(".", "__")


def read_file(path: Path, kinds: Mapping[str, Kind]) -> Layer:
    """Return what a YAML file sets.

    Raises:
        ConfigError: The file cannot be read, is no YAML, holds a key twice, or one that does not exist.
    """
    text = _read_text(path)
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            return {}
        _refuse_duplicates(root, path)
        return _sections(loader, root, path, kinds)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark
        where = str(path) if mark is None else f"{path}:{mark.line + 1}, column {mark.column + 1}"
        raise ConfigError(f"{where}: not valid YAML: {exc.problem}") from exc
    except RecursionError as exc:
        raise ConfigError(f"{path}: lists or mappings are nested too deep") from exc
    except (yaml.YAMLError, ValueError) as exc:  # ValueError: a date such as 2024-13-45
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(exc).split())}") from exc


def read_env(environ: Mapping[str, str], kinds: Mapping[str, Kind]) -> Layer:
    """Return what variables of the form ``LREM_OS__SECTION__KEY`` set; an empty one sets nothing.

    A secret may also stand in a file, which ``LREM_OS__SECTION__KEY_FILE`` names: so orchestrators hand secrets over.

    Raises:
        ConfigError: A variable has the prefix but names no key; a secret's file cannot be read, or is empty.
    """
    keys = {env_name(key): key for key in kinds}
    in_files = {f"{env_name(key)}_FILE": key for key, kind in kinds.items() if kind == "secret"}
    layer: Layer = {}
    for name in sorted(environ):
        if not name.startswith(ENV_PREFIX):
            continue
        if name in in_files and name not in keys:
            if environ[name]:
                layer.setdefault(in_files[name], Written(_read_secret(Path(environ[name]), name), f"env {name}"))
            continue
        if name not in keys:
            raise ConfigError(
                f"the environment sets {name}, which is no configuration key", hint=_suggest(name, keys) or "unset it"
            )
        if environ[name]:
            layer[keys[name]] = Written(_parse(environ[name], kinds[keys[name]]), f"env {name}")
    return layer


def read_overrides(overrides: Sequence[str], kinds: Mapping[str, Kind]) -> Layer:
    """Return what ``--set section.key=value`` options set; the last one wins.

    Raises:
        ConfigError: An option has no ``=``, or names a key that does not exist.
    """
    layer: Layer = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        key = key.strip()
        if not equals:
            raise ConfigError(f"--set {override}: no '='", hint="write --set section.key=value")
        if key not in kinds:
            raise _unknown(key, "--set", kinds)
        layer[key] = Written(_parse(text, kinds[key]), "--set")
    return layer


def _parse(text: str, kind: Kind) -> Any:
    """Read a value as YAML where that cannot surprise: a password of digits stays text, ``a, b`` makes a list."""
    if kind == "secret":
        return text
    if kind == "text" and not text.startswith(('"', "'")) and text not in ("null", "~"):
        return text
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text  # the model refuses it, and names the key
    if kind == "texts" and isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    return value


def _read_text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as exc:
        raise ConfigError(f"no configuration file {path}", hint=f"lrem-os init {path} writes one") from exc
    except IsADirectoryError as exc:
        raise ConfigError(f"{path} is a directory, not a configuration file") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(
            f"{path}: byte {exc.object[exc.start]:#04x} at offset {exc.start} is not UTF-8", hint="save it as UTF-8"
        ) from exc
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror}") from exc


def _read_secret(path: Path, name: str) -> str:
    """Return the text of a secret's file, without the line end that editors add."""
    try:
        text = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        raise ConfigError(f"{name} names {path}, which cannot be read: {reason}") from exc
    if not text:
        raise ConfigError(
            f"{name} names {path}, which is empty", hint="write the secret into it, or unset the variable"
        )
    return text


def _sections(loader: yaml.SafeLoader, root: yaml.Node, path: Path, kinds: Mapping[str, Kind]) -> Layer:
    sections = {key.split(".")[0] for key in kinds}
    layer: Layer = {}
    for name, section in _pairs(root, path, "the file"):
        source = f"{path}:{name.start_mark.line + 1}"
        if name.value not in sections:
            raise _unknown(name.value, source, sections)
        if isinstance(section, yaml.ScalarNode) and section.tag == "tag:yaml.org,2002:null":
            continue  # every key of the section is commented out
        for key_node, value_node in _pairs(section, path, f"the section {name.value}"):
            key, source = f"{name.value}.{key_node.value}", f"{path}:{key_node.start_mark.line + 1}"
            if key not in kinds:
                raise _unknown(key, source, kinds)
            layer[key] = Written(loader.construct_object(value_node, deep=True), source)
    return layer


def _pairs(node: yaml.Node, path: Path, what: str) -> list[tuple[yaml.ScalarNode, yaml.Node]]:
    line = node.start_mark.line + 1
    if not isinstance(node, yaml.MappingNode):
        raise ConfigError(f"{path}:{line}: {what} must be a mapping (name: value), not {_shape(node)}")
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{path}:{key.start_mark.line + 1}: {what} has {_shape(key)} as a name: write plain text")
    return list(node.value)


def _shape(node: yaml.Node) -> str:
    if isinstance(node, yaml.CollectionNode):
        return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"
    return "plain text"


def _refuse_duplicates(root: yaml.Node, path: Path) -> None:
    """YAML loaders keep the last of two equal keys without a word; half an edited file is no configuration."""
    stack, visited = [root], set[int]()
    while stack:
        node = stack.pop()
        if not isinstance(node, yaml.CollectionNode):
            continue
        if id(node) in visited:  # a list that holds itself, or ten levels of ten aliases
            raise ConfigError(f"{path}:{node.start_mark.line + 1}: a YAML alias (*name) stands for this: write it out")
        visited.add(id(node))
        if not isinstance(node, yaml.MappingNode):
            stack.extend(node.value)
            continue
        first: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and first.setdefault((key.tag, key.value), line) != line:
                earlier = first[key.tag, key.value]
                raise ConfigError(f"{path}:{line}: {key.value!r} stands twice, first in line {earlier}: keep one")
            stack.append(value)


def _unknown(name: str, source: str, known: Iterable[str]) -> ConfigError:
    known = list(known)
    section = name.split(".")[0]
    keys = [key.removeprefix(f"{section}.") for key in known if key.startswith(f"{section}.")]
    allowed = f"keys of {section}: " if keys else "sections: "
    allowed += ", ".join(keys or sorted({key.split(".")[0] for key in known}))
    kind = "key" if "." in name else "section"
    return ConfigError(f"{source}: no {kind} {name!r}", hint="; ".join(filter(None, (_suggest(name, known), allowed))))


def _suggest(name: str, known: Iterable[str]) -> str:
    """Return "did you mean …?", or nothing when no name is close."""
    known = list(known)
    same_key = [key for key in known if "." in name and key.split(".")[-1] == name.split(".")[-1]]
    close = same_key or difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else ""
