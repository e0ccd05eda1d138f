"""The data card beside a training file: where it came from, how it was made, how many of what."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lrem_os import __version__
from lrem_os.errors import DatasetError
from lrem_os.train.construct.lines import checksum
from lrem_os.train.construct.prompts import Prompt
from lrem_os.train.construct.run import Files


@dataclass(frozen=True, slots=True)
class Card:
    """What is known about a training file.

    Args:
        title: What it is.
        source: Paper and section of the construction.
        settings: Models, prompt versions, seeds, thresholds: what decided the lines.
        steps: Name of a count → what it counts, in order.
        counts: The counts.
        prompts: What models were asked.
        inputs: Name of an input → SHA-256.
        notes: What a user of the file should know.
    """

    title: str
    source: str
    settings: Mapping[str, Any]
    steps: Mapping[str, str]
    counts: Mapping[str, int]
    prompts: tuple[Prompt, ...] = ()
    inputs: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_dict(self, files: Files) -> dict[str, Any]:
        """Return the card as JSON."""
        return {
            "title": self.title,
            "source": self.source,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "lrem_os": __version__,
            "output": {"file": files.out.name, "sha256": checksum(files.out)},
            "inputs": dict(self.inputs),
            "settings": dict(self.settings),
            "counts": {name: self.counts.get(name, 0) for name in self.steps},
            "prompts": {prompt.version: {"system": prompt.system, "user": prompt.user} for prompt in self.prompts},
            "notes": list(self.notes),
        }


def checksums(paths: Iterable[str | Path]) -> dict[str, str]:
    """Return name → SHA-256 of files; two of one name get their place too."""
    sums: dict[str, str] = {}
    for path in map(Path, paths):
        sums[path.name if path.name not in sums else f"{path.name} ({len(sums) + 1})"] = checksum(path)
    return sums


def write_card(card: Card, files: Files) -> dict[str, Any]:
    """Write ``NAME.card.json`` and ``NAME.card.md`` beside the output; return the card.

    Raises:
        DatasetError: They cannot be written.
    """
    value = card.to_dict(files)
    pages = {".card.json": json.dumps(value, indent=2, ensure_ascii=False) + "\n", ".card.md": to_markdown(value, card)}
    for suffix, text in pages.items():
        path = files.out.with_suffix(suffix)
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as exc:
            raise DatasetError(f"cannot be written: {exc.strerror or exc}", path=path) from exc
    return value


def to_markdown(value: Mapping[str, Any], card: Card) -> str:
    """Return the card as a page."""
    lines = [f"# {card.title}", "", f"{value['source']} Made {value['created']} by lrem-os {value['lrem_os']}.", ""]
    lines += [f"- {note}" for note in card.notes] + ([""] if card.notes else [])
    lines += _table("step", "count", [(card.steps[name], f"{count:,}") for name, count in value["counts"].items()])
    settings = [(name, f"`{json.dumps(setting, ensure_ascii=False)}`") for name, setting in value["settings"].items()]
    lines += _table("setting", "value", settings)
    files = [*value["inputs"].items(), (value["output"]["file"], value["output"]["sha256"])]
    lines += _table("file", "SHA-256", [(name, f"`{digest}`") for name, digest in files])
    for prompt in card.prompts:
        parts = [part for part in (prompt.system, prompt.user) if part]
        lines += [f"## Prompt {prompt.version}", "", *("    " + line for line in "\n\n".join(parts).split("\n")), ""]
    return "\n".join(lines).rstrip() + "\n"


def _table(left: str, right: str, rows: Iterable[tuple[str, str]]) -> list[str]:
    cells = [f"| {one.replace('|', '∣')} | {two.replace('|', '∣')} |" for one, two in rows]
    return [f"| {left} | {right} |", "|---|---|", *cells, ""]
