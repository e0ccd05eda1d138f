"""Reading the thresholds of a gate: a YAML file to one value per limit, each with the line it stands on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lrem_os.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Threshold:
    """One limit.

    Args:
        keys: Its path in the file, ``("runs", "direct", "ndcg@10", "min")``.
        value: As written.
        source: ``FILE:LINE``, for messages.
    """

    keys: tuple[str, ...]
    value: Any
    source: str


def load_thresholds(path: str | Path) -> tuple[Threshold, ...]:
    """Return every limit of a YAML file, in its order.

    Raises:
        ConfigError: The file cannot be read, is not YAML, holds a name twice, an alias or a list, or no limit at all.
    """
    try:
        loader = yaml.SafeLoader(Path(path).read_bytes().decode("utf-8-sig"))
        root = loader.get_single_node()
        found = () if root is None else tuple(_leaves(loader, root, (), path))
    except OSError as exc:
        raise ConfigError(f"{path}: cannot read it: {exc.strerror or exc}") from exc
    except yaml.MarkedYAMLError as exc:
        line = "" if exc.problem_mark is None else f":{exc.problem_mark.line + 1}"
        raise ConfigError(f"{path}{line}: not valid YAML: {exc.problem}") from exc
    except (yaml.YAMLError, ValueError, RecursionError) as exc:  # ValueError: not UTF-8, or a date such as 2024-13-45
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(exc).split())}") from exc
    if not found:
        raise ConfigError(f"{path}: no threshold", hint="write for example  runs: {direct: {ndcg@10: {min: 0.38}}}")
    return found


def _leaves(loader: yaml.SafeLoader, node: yaml.Node, above: tuple[str, ...], path: str | Path) -> Iterator[Threshold]:
    source = f"{path}:{node.start_mark.line + 1}"
    name = ".".join(above) or "the file"
    if isinstance(node, yaml.SequenceNode):
        raise ConfigError(f"{source}: {name} is a list: want names and values")
    if isinstance(node, yaml.ScalarNode):
        if not above:
            raise ConfigError(f"{source}: want names and values, not text")
        yield Threshold(above, loader.construct_object(node), source)
        return
    first: dict[str, int] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{path}:{line}: a name must be plain text")
        if key.value in first:
            raise ConfigError(f"{path}:{line}: {key.value!r} stands twice, first in line {first[key.value]}: keep one")
        first[key.value] = line
        yield from _leaves(loader, value, (*above, key.value), path)
