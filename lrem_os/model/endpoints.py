"""Several servers with the same model: which one is asked next, and which are left alone for a while.

The one that is expected to answer first is asked: by how long its answers took lately, and how many it is working on.
One that failed where another could answer, or does not answer at all, is left alone; when its time is over it is asked
for its list of models, and if it answers it is asked again. Pure but for its clock; belongs to one event loop, but
``states`` may be read from any thread.

Source: least expected load is Finagle's "peak EWMA"; leaving alone with a time that doubles is Envoy's outlier
detection (documentation, "Outlier detection").
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from lrem_os.config_fields import without_userinfo

FIRST_REST_S = 1.0
LONGEST_REST_S = 30.0

_WEIGHT = 0.3  # of the newest answer in the mean
_FORGET_S = 10.0  # after so long without an answer a server is believed to be as fast as the fastest


@dataclass(frozen=True, slots=True)
class EndpointState:
    """How one server is.

    Args:
        url: Without credentials.
        is_up: Whether it is asked.
        num_running: Requests that it works on.
        num_answers: Since the start.
        num_failures: Since the start: it did not answer what another could, or not at all.
        num_rests: How often it was left alone.
        seconds: Mean of its answers' times lately; 0: none.
    """

    url: str
    is_up: bool
    num_running: int
    num_answers: int
    num_failures: int
    num_rests: int
    seconds: float


class Endpoint:
    """One server.

    Args:
        url: Up to ``/v1``.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.shown_url = without_userinfo(url)
        self.num_running = self.num_answers = self.num_failures = self.num_rests = 0
        self.seconds: float | None = None
        self.answered_at = self.asked_at = float("-inf")
        self.rests_until: float | None = None  # None: it is asked
        self.rest_s = FIRST_REST_S
        self.is_probed = False

    @property
    def is_up(self) -> bool:
        """Whether it is asked."""
        return self.rests_until is None


class Endpoints:
    """The servers. One that is alone is never left alone.

    Args:
        urls: At least one; the same twice is one.
        now: Seconds, of a clock that never goes back.
    """

    def __init__(self, urls: Sequence[str], *, now: Callable[[], float] = time.monotonic) -> None:
        self._all = [Endpoint(url) for url in dict.fromkeys(urls)]
        self._now = now

    def __len__(self) -> int:
        return len(self._all)

    @property
    def num_up(self) -> int:
        """How many are asked."""
        return sum(endpoint.is_up for endpoint in self._all)

    @property
    def states(self) -> tuple[EndpointState, ...]:
        """How each of them is, in the order given."""
        return tuple(
            EndpointState(
                one.shown_url,
                one.is_up,
                one.num_running,
                one.num_answers,
                one.num_failures,
                one.num_rests,
                one.seconds or 0.0,
            )
            for one in self._all
        )

    def choose(self, tried: Collection[Endpoint] = ()) -> Endpoint | None:
        """Return the one to ask next; ``None``: all that are up were tried.

        Where none is up, the one that has rested for longest is asked all the same.
        """
        up = [one for one in self._all if one.is_up and one not in tried]
        if not up:
            return None if tried else min(self._all, key=lambda one: one.rests_until or 0.0)
        return min(up, key=lambda one: (self._expected_s(one, up), one.num_running, one.asked_at))

    def due(self) -> list[Endpoint]:
        """Return those whose rest is over, each once until ``rest`` or ``back`` is called for it."""
        now = self._now()
        found = [
            one for one in self._all if one.rests_until is not None and now >= one.rests_until and not one.is_probed
        ]
        for one in found:
            one.is_probed = True
        return found

    def begin(self, endpoint: Endpoint) -> float:
        """Note that it is asked; return the time, for ``answered``."""
        endpoint.num_running += 1
        endpoint.asked_at = self._now()
        return endpoint.asked_at

    def end(self, endpoint: Endpoint) -> None:
        """Note that a request to it is over, however it ended."""
        endpoint.num_running -= 1

    def answered(self, endpoint: Endpoint, begun: float) -> None:
        """Note an answer: it is up, whatever was thought of it."""
        now = self._now()
        took = now - begun
        before = endpoint.seconds
        endpoint.seconds = took if before is None else before + _WEIGHT * (took - before)
        endpoint.answered_at = now
        endpoint.num_answers += 1
        endpoint.rest_s = FIRST_REST_S
        self.back(endpoint)

    def failed(self, endpoint: Endpoint) -> None:
        """Note that it did not answer what another could, or not at all."""
        endpoint.num_failures += 1
        self.rest(endpoint)

    def rest(self, endpoint: Endpoint) -> None:
        """Leave it alone, each time in a row for twice as long."""
        endpoint.is_probed = False
        if len(self._all) == 1:
            return
        endpoint.num_rests += endpoint.is_up
        endpoint.rests_until = self._now() + endpoint.rest_s
        endpoint.rest_s = min(LONGEST_REST_S, 2 * endpoint.rest_s)

    def back(self, endpoint: Endpoint) -> None:
        """Ask it again; until it has answered, its next rest is still the longer one."""
        endpoint.rests_until, endpoint.is_probed = None, False

    def _expected_s(self, endpoint: Endpoint, others: Sequence[Endpoint]) -> float:
        fastest = min((one.seconds for one in others if one.seconds is not None), default=0.0)
        is_known = endpoint.seconds is not None and self._now() - endpoint.answered_at < _FORGET_S
        seconds = endpoint.seconds if is_known and endpoint.seconds is not None else fastest
        return seconds * (endpoint.num_running + 1)
