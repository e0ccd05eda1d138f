"""A node's place in a cluster of several on this machine: names, ports, and the settings that follow. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Seat:
    """What every member of a cluster knows of all of them.

    Args:
        members: Their names; the first is the cluster's.
        transport_ports: Where they talk to each other, in the order of ``members``.
        founded_together: Whether they were all new; else the first had data, and the others joined it.
    """

    members: tuple[str, ...]
    transport_ports: tuple[int, ...]
    founded_together: bool

    @property
    def cluster(self) -> str:
        """The name of the first member, and so of the cluster."""
        return self.members[0]


def member_names(name: str, count: int) -> tuple[str, ...]:
    """Return the names of a cluster's members.

    >>> member_names("shop", 3)
    ('shop', 'shop-2', 'shop-3')
    """
    return (name, *(f"{name}-{number}" for number in range(2, count + 1)))


def seat_settings(seat: Seat, name: str, host: str) -> dict[str, Any]:
    """Return the settings of one member, in place of those of a node that is alone.

    Who joins a cluster that exists must not be told of founders: two newcomers would be enough to found another one.

    Source: OpenSearch 3.6 documentation, "Discovery and cluster formation".
    """
    settings: dict[str, Any] = {
        "transport.port": seat.transport_ports[seat.members.index(name)],
        "discovery.seed_hosts": [f"{host}:{port}" for port in seat.transport_ports],
    }
    if seat.founded_together:
        settings["cluster.initial_cluster_manager_nodes"] = list(seat.members)
    return settings
