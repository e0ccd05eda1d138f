"""The commented configuration file that ``lrem-os init`` writes, made from the models: it cannot fall behind them."""

from __future__ import annotations

import textwrap
from pathlib import Path

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from lrem_os.config import Settings
from lrem_os.config_fields import allowed_values, kind_of, sections_of
from lrem_os.errors import ConfigError

_HEAD = """\
# Configuration of lrem-os. Each key stands at its default: delete what you leave alone.
# An environment variable LREM_OS__SECTION__KEY wins over this file, and --set section.key=value over both.
# `lrem-os config show` prints every value and where it comes from.
"""

_SCALAR_END = "...\n"  # PyYAML ends a document that is a bare scalar with it


def template() -> str:
    """Return a configuration file that holds exactly the defaults."""
    return _HEAD + "".join(f"\n{_section(name, model)}" for name, model in sections_of(Settings).items())


def write_template(path: Path, *, force: bool = False) -> None:
    """Write the commented file.

    Raises:
        ConfigError: The file is there and ``force`` is not given, or it cannot be written.
    """
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(template())
    except FileExistsError as exc:
        raise ConfigError(f"{path} is there already", hint="--force overwrites it") from exc
    except OSError as exc:
        raise ConfigError(f"{path} cannot be written: {exc.strerror}") from exc


def _section(name: str, model: type[BaseModel]) -> str:
    defaults = model().model_dump(mode="json")
    keys = (_key(key, field, defaults[key]) for key, field in model.model_fields.items())
    return f"# {model.__doc__}\n{name}:\n" + textwrap.indent("".join(keys), "  ")


def _key(name: str, field: FieldInfo, default: object) -> str:
    note = f"{field.description} [{allowed_values(field)}]"
    value = yaml.safe_dump(default, default_flow_style=True, sort_keys=False, allow_unicode=True, width=1000)
    line = f"{name}: {value.removesuffix(_SCALAR_END)}"
    if kind_of(field) == "secret":
        line = f"# {name}:\n"  # nobody should be led to write one here
    return textwrap.fill(note, 110, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False) + f"\n{line}"
