"""What a local node runs: OpenSearch or Elasticsearch, and how they differ in files, settings, environment. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lrem_os.errors import NodeError
from lrem_os.types import Engine


@dataclass(frozen=True, slots=True)
class Program:
    """One of the two.

    Args:
        engine: Its name in the configuration; also of its start script, and of its settings file.
        title: Its name for people.
        prefix: Of the environment variables that its start script reads.
        settings: Of ``opensearch.yml``, beside those of every node.
        has_ml: Whether ML Commons can be added.
        can_cluster: Whether several local nodes can make one cluster.
    """

    engine: Engine
    title: str
    prefix: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    has_ml: bool = True
    can_cluster: bool = True

    @property
    def config_file(self) -> str:
        """Name of the settings file."""
        return f"{self.engine}.yml"

    def environment(self, *, java_home: str, config: str, temporary: str) -> dict[str, str]:
        """Return the variables for the start script."""
        values = {"JAVA_HOME": java_home, "PATH_CONF": config, "TMPDIR": temporary}
        variables = {f"{self.prefix}_{name}": value for name, value in values.items()}
        if self.engine == "elasticsearch":  # its launcher is a JVM of its own
            variables["CLI_JAVA_OPTS"] = f"-Djava.io.tmpdir={temporary}"
        return variables


_PROGRAMS: Mapping[Engine, Program] = {
    "opensearch": Program("opensearch", "OpenSearch", "OPENSEARCH"),
    "elasticsearch": Program(
        "elasticsearch",
        "Elasticsearch",
        "ES",
        settings={"xpack.security.enabled": False},  # it listens on this machine only, as OpenSearch's does
        has_ml=False,
        can_cluster=False,
    ),
}


def program_of(engine: Engine) -> Program:
    """Return what a node of this kind runs."""
    return _PROGRAMS[engine]


def check_asked(program: Program, *, with_ml: bool, in_cluster: bool) -> None:
    """Raise ``NodeError`` where a node is asked for that there is not."""
    if with_ml and not program.has_ml:
        raise NodeError(f"{program.title} has no ML Commons", hint="leave --with ml out, or run OpenSearch")
    if in_cluster and not program.can_cluster:
        raise NodeError(
            f"a cluster of several local nodes runs OpenSearch, not {program.title}",
            hint="leave --nodes out, or point search.hosts at a cluster",
        )
