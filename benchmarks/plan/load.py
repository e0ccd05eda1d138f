"""Open-loop load: every query at its moment, whatever became of those before: `python -m benchmarks.plan.load JOB`.

A process of its own, so that it takes no turn from the service's event loop. Latency counts from the moment a query
was to be sent, so a late sender is no excuse for the service.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

_PATIENCE_S = 120.0


async def _ask(session: aiohttp.ClientSession, job: Mapping[str, Any], text: str, due: float) -> tuple[Any, ...]:
    loop = asyncio.get_running_loop()
    params = {"q": text, "size": "10", "_source": "false"}
    async with session.get(f"{job['url']}/{job['index']}/_search", params=params, headers=job["headers"]) as answer:
        await answer.read()
        route, degraded = (answer.headers.get(f"x-lrem-{name}", "") for name in ("route", "degraded"))
        return (loop.time() - due) * 1000, answer.status, route, degraded


async def _run(job: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    timeout = aiohttp.ClientTimeout(total=_PATIENCE_S)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as session:
        arrivals: Sequence[tuple[float, str]] = job["arrivals"]
        if job["one_by_one"]:
            loop = asyncio.get_running_loop()
            return [await _ask(session, job, text, loop.time()) for _, text in arrivals]
        begun = asyncio.get_running_loop().time() + 0.2
        tasks = []
        for at, text in arrivals:
            await asyncio.sleep(max(0.0, begun + at - asyncio.get_running_loop().time()))
            tasks.append(asyncio.create_task(_ask(session, job, text, begun + at)))
        return list(await asyncio.gather(*tasks))


def main() -> None:
    """Run the job of a file; print what became of every query as JSON."""
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(json.dumps(asyncio.run(_run(job))))


if __name__ == "__main__":
    main()
