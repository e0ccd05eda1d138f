from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from lrem_os.cli.groups import ActionGroup, ActionOption, LazyGroup, left_to_subcommand


@click.command()
@click.option("--deep", is_flag=True)
def child(deep: bool) -> None:
    click.echo(f"child {deep}")


@click.group(cls=ActionGroup, lazy={"child": (f"{__name__}:child", "Be a child."), "broken": ("json:dumps", "Break.")})
@click.option("--need", required=True, cls=ActionOption)
@click.option("--maybe", default="x")
@click.pass_context
def group(context: click.Context, need: str, maybe: str) -> None:
    if not left_to_subcommand(context):
        click.echo(f"own {need} {maybe}")


@pytest.mark.parametrize(
    ("args", "code", "output"),
    [
        (["--need", "a"], 0, "own a x"),
        (["--need", "a", "--maybe", "b"], 0, "own a b"),
        ([], 2, "Missing option '--need'"),
        (["child"], 0, "child False"),
        (["child", "--deep"], 0, "child True"),
        (["--maybe", "b", "child"], 2, "--maybe stands before 'child', which has options of its own"),
        (["--need", "a", "child"], 2, "--need stands before 'child'"),
        (["chlid"], 2, "No such command 'chlid'"),
        (["--need", "a", "chlid"], 2, "No such command 'chlid'"),
    ],
)
def test_a_group_acts_itself_or_leaves_it_to_a_subcommand(args: list[str], code: int, output: str) -> None:
    result = CliRunner().invoke(group, args)
    assert (result.exit_code, output in result.output) == (code, True), result.output


def test_help_names_the_subcommands_without_importing_them() -> None:
    lazy = LazyGroup("g", lazy={"absent": ("no_such_module:command", "Not there.")})
    result = CliRunner().invoke(lazy, ["--help"])
    assert result.exit_code == 0
    assert "absent  Not there." in result.output


def test_what_is_no_command_is_refused() -> None:
    with pytest.raises(TypeError, match="json:dumps is not a click command"):
        group.get_command(click.Context(group), "broken")
