#!/usr/bin/env python3
"""Fetches the configured models into ``LREM_OS_HOME``: containers that serve then need neither network nor patience.

``lrem-os-pull [NAME…]``; without names: the configured embedder and reasoner, as far as they run in these containers.
With ``--vllm FOLDER``, a reasoner is laid out there for a vLLM server: ``base/``, and ``adapter/`` where it has one.
Twice is as good as once.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from lrem_os.config import Settings, load_settings
from lrem_os.errors import ConfigError, LremError
from lrem_os.model import inventory, store
from lrem_os.model.package import find_package


def configured(settings: Settings) -> list[tuple[str, str | None]]:
    """Return name and revision of the models that run here, not on a server."""
    parts = [settings.model, settings.reasoning]
    return [(part.name, part.revision) for part in parts if part.name and part.backend != "openai"]


def lay_out(name: str, folder: Path) -> None:
    """Write a reasoner's files to ``folder``, each part complete or as it was.

    Raises:
        ConfigError: The model has no reasoner.
        LremError: It could not be fetched.
    """
    package = find_package(name)
    if package is not None and "reasoner" not in package.parts:
        raise ConfigError(f"{name} has no reasoner of its own that vLLM could serve", hint="name a causal LM")
    part = package.parts["reasoner"] if package is not None else None
    files = store.resolve(part.base, part.version) if part is not None else store.resolve(name)
    folder.mkdir(parents=True, exist_ok=True)
    for kind, source in (("base", files.path), ("adapter", part.adapter if part is not None else None)):
        target, new = folder / kind, folder / f".new-{kind}"
        shutil.rmtree(new, ignore_errors=True)
        if source is not None:
            shutil.copytree(source, new)
        shutil.rmtree(target, ignore_errors=True)
        if source is not None:
            new.rename(target)


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="lrem-os-pull", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="model to fetch [default: the configured ones]")
    parser.add_argument("--vllm", type=Path, metavar="FOLDER", help="lay a reasoner out for a vLLM server")
    parser.add_argument("--vllm-model", default="lrem:small", metavar="NAME", help="which [default: lrem:small]")
    options = parser.parse_args()
    try:
        wanted = [(name, None) for name in options.names] or configured(load_settings().settings)
        for name, revision in wanted:
            row = inventory.pull(name, revision)
            print(f"{row['name']} is in {row['path']}", flush=True)
        if options.vllm is not None:
            lay_out(options.vllm_model, options.vllm)
            print(f"the reasoner of {options.vllm_model} is in {options.vllm}")
    except (LremError, OSError) as exc:
        print(f"error: {exc}", file=sys.stderr)
        if hint := getattr(exc, "hint", None):
            print(f"  → {hint}", file=sys.stderr)
        return getattr(exc, "exit_code", 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
