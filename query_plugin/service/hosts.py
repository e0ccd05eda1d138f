"""Which host of the cluster to ask next: all in turn, those that failed lately only when no other is left.

A host that fails rests for a second, and for twice as long each time it fails again, up to half a minute; then the next
request tries it. So a host that is silent costs one request now and then the time it takes to give it up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

_FIRST_REST_S, _LONGEST_REST_S = 1.0, 30.0


class Hosts:
    """The hosts in the order in which to ask them. Not for several threads.

    Args:
        urls: At least one.
        clock: Seconds, growing.
    """

    def __init__(self, urls: Sequence[str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._urls, self._clock = list(urls), clock
        self._next = 0
        self._rests_until: dict[str, float] = {}
        self._rest_s: dict[str, float] = {}

    def order(self) -> list[str]:
        """Return all hosts: first those that do not rest, in turn; then the others, the soonest back first."""
        now, at = self._clock(), self._next % len(self._urls)
        self._next += 1
        turned = self._urls[at:] + self._urls[:at]
        resting = [url for url in turned if self._rests_until.get(url, now) > now]
        return [url for url in turned if url not in resting] + sorted(resting, key=self._rests_until.__getitem__)

    def failed(self, url: str) -> None:
        """Have a host rest. What fails while it rests says nothing new: requests that were under way together."""
        now = self._clock()
        if self._rests_until.get(url, now) > now:
            return
        self._rest_s[url] = min(_LONGEST_REST_S, 2 * self._rest_s.get(url, _FIRST_REST_S / 2))
        self._rests_until[url] = now + self._rest_s[url]

    def worked(self, url: str) -> None:
        """Let a host be asked again."""
        if url in self._rest_s:
            del self._rest_s[url], self._rests_until[url]
