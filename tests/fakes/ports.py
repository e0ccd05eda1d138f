"""Ports for servers of the tests."""

from __future__ import annotations

import random


def quiet_port() -> int:
    """Return a free port below those that the system hands out.

    Java binds one a minute after it was chosen, and any program may have been given it by then; and a client that tries
    again and again while nobody listens could be given an ephemeral port itself, and be connected to itself.
    """
    from lrem_os.node.launch import port_is_free

    return next(port for port in random.sample(range(20_000, 32_000), 200) if port_is_free(port))
