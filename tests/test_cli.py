"""The command line as a whole: every command explains itself, starts fast and fails in sentences."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from lrem_os.cli import cli

ROOT = Path(__file__).parents[1]
HEAVY = {
    *("torch", "transformers", "ranx", "numpy", "opensearchpy", "rich", "pydantic", "pyarrow"),
    *("orjson", "yaml", "platformdirs", "jgo", "cjdk", "lrem_os.api", "lrem_os.config"),
}


def walk(command: click.Command, path: tuple[str, ...]) -> dict[str, click.Command]:
    commands = {" ".join(path): command}
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            commands |= walk(child, (*path, name))
    return commands


COMMANDS = walk(cli, ("lrem-os",))


def lrem_os(*args: str, before: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own; ``before`` is Python that runs first."""
    code = f"import sys\nsys.argv = ['lrem-os', *{list(args)}]\nfrom lrem_os.cli import main\n{before}\nmain()"
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if key != "LREM_OS_DEBUG"} | environ,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_help_and_an_example(name: str) -> None:
    text = COMMANDS[name].help or ""
    assert len(text.split("\n\n")[0]) > 10
    examples = [line for line in text.splitlines() if line.strip().startswith(name) or f"| {name}" in line]
    assert "\b" in text, r"examples stand in a block after \b"
    assert examples, f"no line starts with {name}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_help(name: str) -> None:
    options = [param for param in COMMANDS[name].params if isinstance(param, click.Option)]
    assert [option.opts for option in options if not option.help] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_a_flag_means_the_same_everywhere(name: str) -> None:
    meanings = {"-c": "config_path", "-n": "top_k", "-i": "index_name", "--json": "as_json", "--set": "overrides"}
    flags = {flag: param.name for param in COMMANDS[name].params for flag in param.opts}
    assert {flag: flags[flag] for flag in meanings if flag in flags} == {
        flag: meaning for flag, meaning in meanings.items() if flag in flags
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_is_documented(name: str) -> None:
    assert f"\n## {name}\n" in (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")


def test_the_short_help_names_every_command() -> None:
    done = lrem_os("--help")
    assert done.returncode == 0
    for name in cli.list_commands(click.Context(cli)):
        assert f"\n  {name} " in done.stdout


@pytest.mark.parametrize(
    "args", [(), ("--help",), ("--version",), *((*name.split()[1:], "--help") for name in COMMANDS)]
)
def test_help_imports_nothing_heavy(args: tuple[str, ...]) -> None:
    report = "import atexit, json\natexit.register(lambda: print('\\n' + json.dumps(sorted(sys.modules))))"
    done = lrem_os(*args, before=report)
    assert done.returncode == 0 if args else done.returncode in (0, 2)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    assert "lrem_os.cli" in loaded
    assert loaded & HEAVY == set()


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (("serach",), "serach"),
        (("search", "--jsn", "x"), "--jsn"),
        (("config", "shwo"), "shwo"),
        (("ingest",), "Missing argument"),
        (("config", "check", "--set", "search.mod=bm25"), "did you mean search.mode?"),
    ],
)
def test_a_misspelt_command_line_exits_with_2(args: tuple[str, ...], part: str) -> None:
    done = lrem_os(*args)
    assert done.returncode == 2
    assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


BOOM = "import lrem_os.config\ndef boom(*_):\n    raise {error}\nlrem_os.config.load_settings = boom"


@pytest.mark.parametrize(
    ("error", "code", "parts"),
    [
        ("RuntimeError('odd')", 1, ["error: unexpected RuntimeError: odd", "LREM_OS_DEBUG=1"]),
        ("KeyboardInterrupt", 130, ["interrupted"]),
        (
            "__import__('lrem_os.errors').errors.NodeError('no node', hint='start one')",
            10,
            ["error: no node", "→ start one"],
        ),
        ("BrokenPipeError", 141, []),
    ],
)
def test_errors_become_sentences_and_exit_codes(error: str, code: int, parts: list[str]) -> None:
    done = lrem_os("config", "show", before=BOOM.format(error=error))
    assert done.returncode == code
    assert [part for part in parts if part not in done.stderr] == []
    assert "Traceback" not in done.stderr


def test_the_traceback_of_a_bug_is_there_for_who_wants_it() -> None:
    done = lrem_os("config", "show", before=BOOM.format(error="RuntimeError('odd')"), LREM_OS_DEBUG="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_a_reader_that_stops_early_gets_no_traceback() -> None:
    command = f"{sys.executable} -m lrem_os config show | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.stdout.startswith("model.name")
    assert done.stderr == ""


def test_python_m_runs_the_same_command_line() -> None:
    done = subprocess.run([sys.executable, "-m", "lrem_os", "--version"], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.startswith("lrem-os, version ")
