"""What the commands share: the configuration options, output in JSON, errors to exit codes."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import click

from lrem_os.errors import LremError

F = TypeVar("F", bound=Callable[..., Any])


def config_options(command: F) -> F:
    """Add ``-c/--config`` and ``--set`` to a command; pass both to ``lrem_os.config.load_settings``."""
    command = click.option(
        "-c",
        "--config",
        "config_path",
        type=click.Path(dir_okay=False),
        default=None,
        metavar="FILE",
        help="Configuration file [default: lrem-os.yaml here, if it exists].",
    )(command)
    return click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="SECTION.KEY=VALUE",
        help="Override one value; may be repeated.",
    )(command)


def split_list(text: str) -> list[str]:
    """Return the parts of a list that is written with commas, without blanks around them and without empty ones."""
    return [part.strip() for part in text.split(",") if part.strip()]


def json_option(command: F) -> F:
    """Add ``--json``: one JSON document on standard output, everything else on standard error."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output."""
    import orjson

    data = orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE, default=str)
    click.echo(data.decode(), nl=False)


def _terminate(signum: int, _frame: object) -> NoReturn:
    """End as an error would, so that everything opened is closed and restored; the next signal ends at once."""
    signal.signal(signum, signal.SIG_DFL)
    sys.exit(128 + signum)


def run(command: click.Command) -> NoReturn:
    """Run a click command to its exit code. The one place where an error becomes text for a person."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        result = command.main(standalone_mode=False)
        sys.exit(result if isinstance(result, int) else 0)
    except click.exceptions.Abort:
        click.echo("\ninterrupted", err=True)
        sys.exit(130)
    except click.ClickException as exc:
        exc.show()
        sys.exit(exc.exit_code)
    except LremError as exc:
        click.echo(f"error: {exc}", err=True)
        if exc.hint:
            click.echo(f"  → {exc.hint}", err=True)
        sys.exit(exc.exit_code)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - lives until the process ends
        sys.exit(141)
    except Exception as exc:
        if os.environ.get("LREM_OS_DEBUG"):
            raise
        logging.getLogger("lrem_os").debug("unexpected error", exc_info=True)
        click.echo(f"error: unexpected {type(exc).__name__}: {exc}", err=True)
        click.echo("  → a bug in lrem-os: run again with LREM_OS_DEBUG=1 and report the traceback", err=True)
        sys.exit(1)
