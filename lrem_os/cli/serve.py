"""``lrem-os serve``: options in, the service runs until it is told to stop."""

from __future__ import annotations

import click

from lrem_os.cli.options import config_options


@click.command()
@click.option("--host", default=None, help="Address to listen on [default: serve.host].")
@click.option("--port", type=int, default=None, help="Port to listen on; 0: a free one [default: serve.port].")
@config_options
def serve(host: str | None, port: int | None, config_path: str | None, overrides: tuple[str, ...]) -> None:
    """Answer neural queries in front of OpenSearch, over HTTP.

    Clients of OpenSearch change the host and nothing else: a `neural` clause on index.vector_field gets its vector
    here, reasoned where that pays, and everything else goes through as it came. SIGTERM or Ctrl-C: what is under way
    may end first.

    \b
    lrem-os serve
    lrem-os serve --port 9000 --set route.share=0.1 --set serve.ubi=true
    curl 'http://127.0.0.1:8099/products/_search?q=what+do+I+put+under+a+hot+pot'
    """
    import logging

    from lrem_os import api
    from lrem_os.config import load_settings

    given = {"host": host, "port": port}
    overrides = (*overrides, *(f"serve.{key}={value}" for key, value in given.items() if value is not None))
    settings = load_settings(config_path, overrides).settings
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    logging.getLogger("opensearch").setLevel(logging.ERROR)  # its warnings are tracebacks; we say what failed ourselves
    api.serve(settings, on_listening=lambda url: click.echo(f"lrem-os serves {url}, API at {url}/docs", err=True))
