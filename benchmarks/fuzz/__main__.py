"""20,000 fuzzed requests to the service before a real node: `python -m benchmarks.fuzz --help`; results/fuzz.json.

Most are mutated OpenSearch searches and requests to the service's own endpoints, up to a quarter is what schemathesis
makes of its OpenAPI description. No answer may be a fault of the service, none may hang, each has the
documented shape, and in the end the service holds no more than when it was warm.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click

from benchmarks.fuzz.fuzz import Outcome, run
from benchmarks.fuzz.target import running
from benchmarks.machine import write_result
from lrem_os.config import load_settings
from lrem_os.node.local import find_node

PACKAGES = ("lrem-os", "schemathesis", "hypothesis", "fastapi", "starlette", "uvicorn", "httptools", "aiohttp", "httpx")


def show(outcome: Outcome) -> None:
    statuses = sorted({status for one in outcome.statuses.values() for status in one})
    click.echo(f"{'':10}" + "".join(f"{status:>8}" for status in statuses) + f"{'all':>9}")
    for kind, one in sorted(outcome.statuses.items()):
        click.echo(f"{kind:10}" + "".join(f"{one[status]:>8,}" for status in statuses) + f"{sum(one.values()):>9,}")
    click.echo(f"clauses of ours: {dict(outcome.routes)}")
    click.echo(f"of OpenSearch itself: {dict(outcome.of_opensearch)}; slowest {outcome.slowest_ms:,.0f} ms")
    for name, state in outcome.states.items():
        click.echo(f"{name:10}{state}")


@click.command(context_settings={"show_default": True})
@click.option("--num", default=20_000, help="Requests.")
@click.option("--seed", default=1, help="The same seed, the same requests.")
@click.option("--node", default=None, help="URL of OpenSearch; none: the local node that runs.")
@click.option("--most-mib", default=32.0, help="By how much the service may grow once it is warm.")
def main(num: int, seed: int, node: str | None, most_mib: float) -> None:
    """Fuzz the service; exit with 1 when it does anything that it must not."""
    if node is None:
        found = find_node(load_settings().settings.node)
        if found is None:
            raise click.ClickException("no node runs: `lrem-os node up`, or --node URL")
        node = found.url
    with tempfile.TemporaryDirectory() as folder, running(node.rstrip("/"), Path(folder)) as target:
        outcome = run(target, num, seed, lambda told: click.echo(told, err=True))
        wrong = [*outcome.wrong, *outcome.leaks(most_mib)]
        faults = (Path(folder) / "serve.log").read_text(encoding="utf-8").count("Traceback")
        if faults:
            wrong.append(f"{faults} tracebacks in the service's log")
    show(outcome)
    for one in wrong[:20]:
        click.echo(f"WRONG {one[:1500]}")
    payload = {"seed": seed, "most_mib": most_mib, "num_wrong": len(wrong), **outcome.as_json()}
    click.echo(write_result("fuzz", payload, PACKAGES))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
