"""Groups of commands that are loaded when they run, and groups that also do something themselves."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click
from click.core import ParameterSource


class LazyGroup(click.Group):
    """A group that knows its commands by name and loads one only to run it or to show its own help.

    Args:
        lazy: Name → (``module:attribute``, one line for ``--help``, so that ``--help`` imports nothing).
    """

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return the command, imported now; none of that name: none."""
        if cmd_name not in self.lazy:
            return None
        module, attribute = self.lazy[cmd_name][0].split(":")
        command = getattr(import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}:{attribute} is not a click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the table of commands without importing one."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self.lazy.items()])


class ActionGroup(LazyGroup):
    """A group that does something itself where no subcommand follows; its options belong to that action alone."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs |= {"invoke_without_command": True, "subcommand_metavar": "[COMMAND [ARGS]...]"}
        super().__init__(*args, **kwargs)


class ActionOption(click.Option):
    """An option that the group's own action requires and its subcommands do not."""

    def handle_parse_result(
        self, ctx: click.Context, opts: Mapping[str, Any], args: list[str]
    ) -> tuple[Any, list[str]]:
        """Do not miss the option where a subcommand follows."""
        if args and self.name is not None and self.name not in opts:  # what is left names a subcommand
            ctx.params[self.name] = None
            return None, args
        return super().handle_parse_result(ctx, opts, args)


def left_to_subcommand(ctx: click.Context) -> bool:
    """Return whether a subcommand of an ``ActionGroup`` runs.

    Raises:
        click.UsageError: Options of the group's own action were given with it: they would be ignored.
    """
    if ctx.invoked_subcommand is None:
        return False
    given = [
        param.opts[0]
        for param in ctx.command.params
        if param.name is not None and ctx.get_parameter_source(param.name) is ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(
            f"{', '.join(given)} stands before {ctx.invoked_subcommand!r}, which has options of its own: "
            f"write {ctx.command_path} {ctx.invoked_subcommand} …",
            ctx,
        )
    return True
