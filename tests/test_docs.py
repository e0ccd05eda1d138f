"""The documentation cannot drift: generated pages are fresh, command lines parse, links lead somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from lrem_os import errors
from lrem_os.cli import cli
from tests.fakes.scripts import load_script

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


GENERATOR = load_script("scripts/generate_docs.py")


@pytest.mark.parametrize("page", GENERATOR.PAGES)
def test_generated_pages_are_fresh(page: str) -> None:
    assert (ROOT / "docs" / page).read_text(encoding="utf-8") == GENERATOR.PAGES[page](), "run scripts/regen"


def fenced_lines(text: str) -> Iterator[str]:
    """Yield the lines of fenced blocks, continuation lines joined, prompts removed."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
        if language not in ("", "console", "sh", "bash", "shell"):
            continue
        for line in re.sub(r"\s*\\\n\s*", " ", block).splitlines():
            yield line.strip().removeprefix("$ ")


def command_lines(text: str) -> list[list[str]]:
    """Return the arguments of every ``lrem-os`` call in fenced blocks, also behind a pipe; explanations cut."""
    calls = []
    for line in fenced_lines(text):
        if "lrem-os" not in line or "[OPTIONS]" in line:
            continue
        for part in re.split(r"\s(?:\||&&)\s", re.sub(r"\s{3,}.*", "", line)):
            words = shlex.split(part, comments=True)
            while words and re.fullmatch(r"[A-Z][A-Z0-9_]*=.*", words[0]):
                words.pop(0)
            if words and words[0] == "lrem-os":
                calls.append([word for word in words[1:] if not re.match(r"\d?[<>]", word)])
    return calls


def check_call(args: list[str]) -> None:
    """Raise ``click.UsageError`` unless commands and options exist. Missing files do not matter."""
    command: click.Command = cli
    context = click.Context(cli)
    while isinstance(command, click.Group) and args and not args[0].startswith("-"):
        child = command.get_command(context, args[0])
        if child is None:
            raise click.UsageError(f"no such command: {args[0]}")
        command, args = child, args[1:]
    if isinstance(command, click.Group) and not command.invoke_without_command:
        return  # --help, --version
    try:
        command.make_context("lrem-os", list(args))
    except click.exceptions.Exit:
        return  # --help
    except click.BadParameter as exc:
        if isinstance(exc, click.MissingParameter) or not isinstance(
            exc.param and exc.param.type, click.Path | click.File
        ):
            raise


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_command_lines_in_the_documentation_parse(page: Path) -> None:
    wrong = []
    for args in command_lines(page.read_text(encoding="utf-8")):
        try:
            check_call(args)
        except click.UsageError as exc:
            wrong.append(f"lrem-os {' '.join(args)}: {exc.format_message()}")
    assert wrong == []


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_running_text_exist(page: Path) -> None:
    wrong = []
    for call in re.findall(r"`lrem-os ([^`]*)`", page.read_text(encoding="utf-8")):
        try:
            check_call(shlex.split(call))
        except click.MissingParameter:
            pass  # `lrem-os ingest` is a name here, not a line to type
        except click.UsageError as exc:
            wrong.append(f"lrem-os {call}: {exc.format_message()}")
    assert wrong == []


def test_wrong_command_lines_are_found() -> None:
    first = "```\n$ X=1 lrem-os serach x\n```\n"
    page = f"{first}```console\nlrem-os config show \\\n  --jsn | head\ncat a | lrem-os ingest\n```\n"
    calls = command_lines(page)
    assert calls == [["serach", "x"], ["config", "show", "--jsn"], ["ingest"]]
    for args in calls:
        with pytest.raises(click.UsageError):
            check_call(args)
    check_call(["config", "check", "-c", "absent.yaml"])


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def all_errors() -> list[type[errors.LremError]]:
    return [error for _, error in GENERATOR.walk_errors(errors.LremError)]


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [error.__dict__.get("code") for error in all_errors()]
    assert None not in codes
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("error", all_errors())
def test_every_error_is_documented_and_drawn(error: type[errors.LremError]) -> None:
    assert f"`{error.__name__}` | `{error.code}` | {error.exit_code} |" in (ROOT / "docs" / "errors.md").read_text(
        "utf-8"
    )
    assert error.__doc__
    assert re.search(rf"\b{error.__name__}\b", errors.__doc__ or "")


def test_every_class_of_the_module_hangs_in_the_tree() -> None:
    classes = {
        value for value in vars(errors).values() if isinstance(value, type) and value.__module__ == errors.__name__
    }
    assert classes == set(all_errors())
