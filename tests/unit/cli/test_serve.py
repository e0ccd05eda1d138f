from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from lrem_os import api
from lrem_os.cli import cli
from lrem_os.errors import ConfigError


def run(*args: str) -> Any:
    return CliRunner().invoke(cli, ["serve", *args])


def test_options_win_over_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def serve(settings: Any, *, on_listening: Any) -> None:
        seen.append((settings.serve.host, settings.serve.port, settings.serve.ubi))
        on_listening("http://127.0.0.1:9000")

    monkeypatch.setattr(api, "serve", serve)
    result = run("--port", "9000", "--set", "serve.ubi=true", "--set", "serve.port=1")
    assert result.exit_code == 0
    assert seen == [("127.0.0.1", 9000, True)]
    assert result.stdout == ""
    assert result.stderr == "lrem-os serves http://127.0.0.1:9000, API at http://127.0.0.1:9000/docs\n"


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--port", "70000"], "serve.port"),
        (["--set", "serve.cert_file=a.pem"], "serve.key_file"),
        (["--set", "serve.ubi_hash=true"], "serve.ubi_hash_key"),
    ],
)
def test_what_cannot_be_configured_is_said(args: list[str], told: str) -> None:
    result = run(*args)
    assert isinstance(result.exception, ConfigError)
    assert told in str(result.exception)
