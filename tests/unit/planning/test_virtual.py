from __future__ import annotations

import asyncio
import time

import pytest

from lrem_os.planning.virtual import Cores, run_virtual


def test_waiting_takes_no_time_and_happens_in_order() -> None:
    async def main() -> list[tuple[str, float]]:
        loop, told = asyncio.get_running_loop(), list[tuple[str, float]]()

        async def wait(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            told.append((name, loop.time()))

        await asyncio.gather(wait("year", 3e7), wait("hour", 3600), wait("second", 1))
        return told

    begun = time.monotonic()
    found = run_virtual(main())
    assert [name for name, _ in found] == ["second", "hour", "year"]
    assert [at for _, at in found] == pytest.approx([1, 3600, 3e7])
    assert time.monotonic() - begun < 60


def test_a_wait_that_nothing_ends_is_told() -> None:
    async def main() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="no timer"):
        run_virtual(main())


def ends(number: float, *jobs: tuple[float, float, float]) -> list[float]:
    """Return when jobs (begin, seconds, width) on so many cores end."""

    async def main() -> list[float]:
        cores, loop = Cores(number), asyncio.get_running_loop()

        async def job(begin: float, seconds: float, width: float) -> float:
            await asyncio.sleep(begin)
            await cores.run(seconds, width)
            return loop.time()

        found = await asyncio.gather(*(job(*each) for each in jobs))
        work = sum(seconds * min(width, number) for _, seconds, width in jobs)
        assert cores.busy_s == pytest.approx(work)
        return found

    return run_virtual(main())


def test_jobs_share_cores() -> None:
    assert ends(1, (0, 1, 1)) == pytest.approx([1])
    assert ends(2, (0, 1, 1), (0, 1, 1)) == pytest.approx([1, 1])
    assert ends(1, (0, 1, 1), (0, 1, 1)) == pytest.approx([2, 2])
    assert ends(1, (0, 3, 1), (1, 1, 1)) == pytest.approx([4, 3])  # by hand: both at half speed from 1 to 3
    assert ends(float("inf"), *[(0, 1, 1)] * 50) == pytest.approx([1] * 50)


def test_a_wide_job_takes_several_cores_and_no_more_than_there_are() -> None:
    assert ends(2, (0, 1, 2), (0, 1, 1)) == pytest.approx([1.5, 1.5])  # three wanted, two there
    assert ends(2, (0, 1, 8)) == pytest.approx([1])
