"""``lrem-os doctor``."""

from __future__ import annotations

import click

from lrem_os.cli.options import config_options, json_option, print_json

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@json_option
@config_options
@click.pass_context
def doctor(context: click.Context, as_json: bool, config_path: str | None, overrides: tuple[str, ...]) -> None:
    """Check Java, node, cluster, plugins, model, index, GPU and disk, and say what to do about each.

    It starts, fetches and changes nothing.

    \b
    lrem-os doctor
    lrem-os doctor -c staging.yaml --json

    Exit code 1: something fails; warnings alone end with 0.
    """
    from dataclasses import asdict

    from lrem_os.config import load_settings
    from lrem_os.doctor import diagnose

    settings = load_settings(config_path, overrides).settings
    checks = []
    for check in diagnose(settings):
        checks.append(check)
        if not as_json:
            click.echo(
                f"{click.style(f'{check.status:<4}', fg=_COLOURS[check.status])}  {check.name:<8}  {check.message}"
            )
            if check.hint:
                click.echo(f"{'':16}→ {check.hint}")
    if as_json:
        print_json([asdict(check) for check in checks])
    context.exit(1 if any(check.status == "fail" for check in checks) else 0)
