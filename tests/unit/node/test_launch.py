from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lrem_os.errors import NodeError, PortInUse
from lrem_os.node.home import NodeHome
from lrem_os.node.launch import (
    choose_port,
    health,
    jvm_options,
    opensearch_yml,
    port_is_free,
    start_failure,
    telling_lines,
    wait_until_ready,
    write_config,
)
from lrem_os.node.program import check_asked, program_of

HOME = NodeHome(Path("/cache/nodes/two"))

JVM_OPTIONS = """## heap
-Xms1g
-Xmx1g
11-:-XX:+UseG1GC
-Djava.io.tmpdir=${OPENSEARCH_TMPDIR}
-XX:+HeapDumpOnOutOfMemoryError
-XX:HeapDumpPath=data
-XX:ErrorFile=logs/hs_err_pid%p.log
8:-Xloggc:logs/gc.log
9-:-Xlog:gc*,gc+age=trace,safepoint:file=logs/gc.log:utctime,pid,tags:filecount=32,filesize=64m
21-:-javaagent:agent/opensearch-agent.jar
"""

BIND_FAILURE = """[2026-01-01T10:00:00,000][INFO ][o.o.n.Node ] [two] starting ...
[2026-01-01T10:00:01,000][ERROR][o.o.b.OpenSearchUncaughtExceptionHandler] [two] uncaught exception in thread [main]
org.opensearch.bootstrap.StartupException: BindHttpException[Failed to bind to 127.0.0.1:9400]
	at org.opensearch.bootstrap.OpenSearch.init(OpenSearch.java:171)
Caused by: java.net.BindException: Address already in use
"""

UNKNOWN_SETTING = """WARNING: Using incubator modules: jdk.incubator.vector
[2026-01-01T10:00:00,000][WARN ][stderr ] [two] SLF4J(W): No SLF4J providers were found.
[2026-01-01T10:00:01,000][ERROR][o.o.b.OpenSearchUncaughtExceptionHandler] [two] uncaught exception in thread [main]
org.opensearch.bootstrap.StartupException: SettingsException[unknown setting [foo.bar]]
	at org.opensearch.bootstrap.OpenSearch.init(OpenSearch.java:171)
	... 6 more
uncaught exception in thread [main]
SettingsException[unknown setting [foo.bar]]
	at org.opensearch.common.settings.AbstractScopedSettings.validate(AbstractScopedSettings.java:643)
For complete error details, refer to the log at /cache/nodes/two/logs/lrem-os-two.log
"""


def test_the_node_listens_on_this_machine_only() -> None:
    settings = opensearch_yml(HOME, port=9400, with_ml=False)
    assert settings["network.host"] == "127.0.0.1"
    assert settings["http.port"] == 9400
    assert settings["path.logs"] == "/cache/nodes/two/logs"
    assert not any("ml_commons" in key for key in settings)


def test_ml_commons_may_call_an_endpoint_on_this_machine_only() -> None:
    settings = opensearch_yml(HOME, port=9400, with_ml=True)
    (trusted,) = settings["plugins.ml_commons.trusted_connector_endpoints_regex"]
    for host in ("http://127.0.0.1:8099", "https://localhost:8099", "http://[::1]:8099"):
        assert re.fullmatch(trusted, f"{host}/v1/embeddings")
    for host in ("http://10.0.0.1:8099", "http://127.0.0.1.example.org:80", "http://localhost:8099@example.org:80"):
        assert not re.fullmatch(trusted, f"{host}/v1/embeddings")
    assert settings["plugins.ml_commons.only_run_on_ml_node"] is False


def test_jvm_options_keep_what_is_the_distributions_and_write_nothing_into_it() -> None:
    lines = jvm_options(JVM_OPTIONS, HOME, heap_mb=768).splitlines()
    assert [line for line in lines if line.startswith("-Xm")] == ["-Xms768m", "-Xmx768m"]
    assert "11-:-XX:+UseG1GC" in lines
    assert "21-:-javaagent:agent/opensearch-agent.jar" in lines
    assert not any("=logs/" in line or ":logs/" in line or "=data" in line for line in lines)
    assert "-XX:ErrorFile=/cache/nodes/two/logs/hs_err_pid%p.log" in lines


def test_write_config_leaves_the_nodes_key_store(tmp_path: Path) -> None:
    source = tmp_path / "distribution" / "config"
    source.mkdir(parents=True)
    (source / "jvm.options").write_text(JVM_OPTIONS)
    (source / "log4j2.properties").write_text("status = error\n")
    home = NodeHome(tmp_path / "two")
    home.config.mkdir(parents=True)
    (home.config / "opensearch.keystore").write_text("secret")
    for port in (9400, 9401):
        write_config(home, source.parent, None, port=port, with_ml=False, heap_mb=512)
    assert sorted(path.name for path in home.config.iterdir()) == [
        *("jvm.options", "log4j2.properties", "opensearch.keystore", "opensearch.yml")
    ]
    assert yaml.safe_load((home.config / "opensearch.yml").read_text()) == opensearch_yml(
        home, port=9401, with_ml=False
    )


def test_a_configured_port_is_used_or_refused_never_replaced() -> None:
    assert choose_port(9400, 9300, lambda port: port == 9400) == 9400
    with pytest.raises(PortInUse, match="port 9400 is in use") as caught:
        choose_port(9400, 9300, lambda port: port != 9400)
    assert "--port" in str(caught.value.hint)


def test_the_port_of_the_last_start_is_preferred() -> None:
    assert choose_port(None, 9300, lambda port: True) == 9300
    assert choose_port(None, 9300, lambda port: port != 9300) == 9200


def test_no_port_at_all_is_a_sentence() -> None:
    with pytest.raises(PortInUse, match="9200 to 9299 are all in use"):
        choose_port(None, None, lambda port: False)


@given(taken=st.sets(st.integers(9200, 9250)), previous=st.none() | st.integers(9200, 9250))
def test_a_chosen_port_is_free(taken: set[int], previous: int | None) -> None:
    port = choose_port(None, previous, lambda port: port not in taken)
    assert port not in taken
    assert port == previous or all(lower in taken for lower in range(9200, port))


def test_a_served_port_is_not_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not port_is_free(port)
    assert port_is_free(port)


def test_a_bound_port_that_does_not_listen_is_not_free() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        assert not port_is_free(holder.getsockname()[1])


@contextmanager
def answering(body: object, status: int = 200) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"cluster_name": "lrem-os-two", "status": "green"}, "green"),
        ({"cluster_name": "somebody-else", "status": "green"}, None),
        ({"error": "x"}, None),
        (["green"], None),
    ],
)
def test_health_is_taken_from_this_node_only(body: object, expected: str | None) -> None:
    with answering(body) as port:
        assert health("two", port) == expected


def test_health_ignores_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with answering({"cluster_name": "lrem-os-two", "status": "yellow"}) as port:
        assert health("two", port) == "yellow"


def test_nothing_listens() -> None:
    assert health("two", 1) is None


def wait(home: NodeHome, port: int, *, alive: bool = True) -> None:
    wait_until_ready(home, port, is_alive=lambda: alive, timeout_s=0.2, pause_s=0.01)


def test_waiting_ends_when_the_node_is_ready() -> None:
    with answering({"cluster_name": "lrem-os-two", "status": "yellow"}) as port:
        wait(HOME, port)


def test_waiting_for_a_red_cluster_ends_with_what_to_do() -> None:
    with answering({"cluster_name": "lrem-os-two", "status": "red"}) as port, pytest.raises(NodeError) as caught:
        wait(HOME, port)
    assert "stays red" in str(caught.value)
    assert "allocation/explain" in str(caught.value.hint)


def test_waiting_for_a_silent_node_ends() -> None:
    with pytest.raises(NodeError, match="did not answer within 0 s"):
        wait(HOME, 1)


def test_a_node_that_dies_is_noticed_at_once_and_its_log_read(tmp_path: Path) -> None:
    home = NodeHome(tmp_path)
    home.console.write_text(UNKNOWN_SETTING)
    with pytest.raises(NodeError, match=r"ended while it started.*\n    SettingsException\[unknown setting"):
        wait(home, 1, alive=False)


def test_a_port_lost_to_another_process_while_starting_is_named() -> None:
    error = start_failure(BIND_FAILURE, HOME, 9400)
    assert isinstance(error, PortInUse)
    assert "port 9400" in str(error)


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ("java.io.IOException: No space left on device", "no space left on the disk of /cache/nodes/two/data"),
        ("# There is insufficient memory for the Java Runtime Environment to continue.", "not enough memory"),
        ("", "ended while it started"),
    ],
)
def test_why_a_start_failed(log: str, message: str) -> None:
    assert message in str(start_failure(log, HOME, 9400))


def test_only_the_lines_that_tell_something_are_kept() -> None:
    assert telling_lines(UNKNOWN_SETTING.splitlines()) == ["SettingsException[unknown setting [foo.bar]]"]
    assert telling_lines(["[2026-01-01T10:00:00,000][INFO ][x] all is well"]) == [
        "[2026-01-01T10:00:00,000][INFO ][x] all is well"
    ]
    assert telling_lines([f"line {number}" for number in range(20)], limit=2) == ["line 18", "line 19"]


def test_elasticsearch_has_a_settings_file_and_variables_of_its_own(tmp_path: Path) -> None:
    program = program_of("elasticsearch")
    settings = opensearch_yml(HOME, port=9400, with_ml=False, program=program)
    assert settings["xpack.security.enabled"] is False  # what listens on this machine only has no password
    assert settings["network.host"] == "127.0.0.1"
    source, home = tmp_path / "es", NodeHome(tmp_path / "node")
    (source / "config").mkdir(parents=True)
    for name in ("jvm.options", "log4j2.properties"):
        (source / "config" / name).write_text("-Xms1g\n")
    home.config.mkdir(parents=True)
    write_config(home, source, None, port=9400, with_ml=False, heap_mb=512, program=program)
    assert yaml.safe_load((home.config / "elasticsearch.yml").read_text())["http.port"] == 9400
    assert not (home.config / "opensearch.yml").exists()
    variables = program.environment(java_home="/j", config="/c", temporary="/t")
    assert variables == {
        "ES_JAVA_HOME": "/j",
        "ES_PATH_CONF": "/c",
        "ES_TMPDIR": "/t",
        "CLI_JAVA_OPTS": "-Djava.io.tmpdir=/t",
    }


@pytest.mark.parametrize(("asked", "told"), [({"with_ml": True}, "no ML Commons"), ({"in_cluster": True}, "a cluster")])
def test_what_elasticsearch_lacks_is_refused(asked: dict[str, bool], told: str) -> None:
    nothing = {"with_ml": False, "in_cluster": False}
    check_asked(program_of("elasticsearch"), **nothing)
    check_asked(program_of("opensearch"), with_ml=True, in_cluster=True)
    with pytest.raises(NodeError, match=told):
        check_asked(program_of("elasticsearch"), **(nothing | asked))
