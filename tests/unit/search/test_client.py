from __future__ import annotations

import inspect
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opensearchpy import exceptions
from opensearchpy.helpers import errors as helper_errors
from pydantic import SecretStr

from lrem_os.config import SearchSettings
from lrem_os.errors import (
    AccessDenied,
    ConfigError,
    IndexMissing,
    LremError,
    RequestRejected,
    SearchError,
    SearchRejected,
    SearchTimeout,
    SearchUnavailable,
    Unsupported,
)
from lrem_os.search.client import (
    connect,
    describe_error,
    error_reason,
    parse_retry_after,
    parse_version,
    search_many,
    server_info,
    translate_errors,
)
from tests.fakes.opensearch import FakeOpenSearch, Fault

EXPECTED: dict[str, tuple[tuple[Any, ...], type[LremError]]] = {
    "AuthenticationException": ((401, "security_exception", {}), AccessDenied),
    "AuthorizationException": ((403, "security_exception", {}), AccessDenied),
    "BulkIndexError": (("2 documents failed", []), SearchError),
    "ConflictError": ((409, "version_conflict", {}), RequestRejected),
    "ConnectionError": (("N/A", "refused", OSError()), SearchUnavailable),
    "ConnectionTimeout": (("TIMEOUT", "read timed out", OSError()), SearchTimeout),
    "IllegalOperation": (("no",), SearchError),
    "ImproperlyConfigured": (("no SSL",), ConfigError),
    "NotFoundError": ((404, "index_not_found_exception", {}), IndexMissing),
    "OpenSearchDslException": (("no",), SearchError),
    "OpenSearchException": (("no",), SearchError),
    "RequestError": ((400, "parsing_exception", {}), RequestRejected),
    "SSLError": (("N/A", "certificate verify failed", OSError()), AccessDenied),
    "ScanError": (("scroll-1", "shards failed"), SearchError),
    "SerializationError": (("<html>", ValueError()), SearchError),
    "TransportError": ((503, "unavailable", {}), SearchUnavailable),
    "UnknownDslObject": (("no",), SearchError),
    "ValidationException": (("no",), SearchError),
}
CLASSES = {
    name: cls
    for module in (exceptions, helper_errors)
    for name, cls in inspect.getmembers(module, inspect.isclass)
    if issubclass(cls, Exception) and not issubclass(cls, Warning)
}


def test_every_exception_of_opensearch_py_is_expected() -> None:
    assert CLASSES.keys() == EXPECTED.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_every_exception_is_translated(name: str) -> None:
    args, ours = EXPECTED[name]
    original = CLASSES[name](*args)
    with pytest.raises(ours) as caught, translate_errors():
        raise original
    assert type(caught.value) is ours
    assert caught.value.__cause__ is original
    assert str(caught.value)


@pytest.mark.parametrize(
    ("status", "ours", "is_retryable"),
    [
        (400, RequestRejected, False),
        (405, RequestRejected, False),
        (408, SearchTimeout, True),
        (413, RequestRejected, False),
        (429, SearchRejected, True),
        (500, SearchUnavailable, True),
        (502, SearchUnavailable, True),
        (503, SearchUnavailable, True),
        (504, SearchTimeout, True),
        (599, SearchUnavailable, True),
    ],
)
def test_statuses(status: int, ours: type[LremError], is_retryable: bool) -> None:
    with pytest.raises(ours) as caught, translate_errors():
        raise exceptions.TransportError(status, "kind", {"error": {"type": "kind", "reason": "why"}})
    assert type(caught.value) is ours
    assert caught.value.retryable is is_retryable
    assert "kind: why" in str(caught.value)


def test_what_is_not_found_and_no_index_is_no_missing_index() -> None:
    with pytest.raises(RequestRejected), translate_errors():
        raise exceptions.NotFoundError(404, "no handler", None)


def test_a_lost_scroll_is_worth_another_try() -> None:
    info = {
        "error": {
            "type": "search_phase_execution_exception",
            "reason": "all shards failed",
            "caused_by": {"type": "search_context_missing_exception", "reason": "No search context found"},
        }
    }
    with pytest.raises(SearchUnavailable, match="lost the scroll"), translate_errors():
        raise exceptions.NotFoundError(404, "search_phase_execution_exception", info)


def test_errors_of_ours_and_of_others_pass() -> None:
    for error in (KeyError("x"), Unsupported("x")):
        with pytest.raises(type(error)), translate_errors():
            raise error


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(None, None), ("", None), ("7", 7.0), (" 0 ", 0.0), ("soon", None), ("-3", None), ("²", None), ("1.5", None)],
)
def test_retry_after_in_seconds(value: str | None, seconds: float | None) -> None:
    assert parse_retry_after(value) == seconds


def test_retry_after_as_a_date() -> None:
    soon = datetime.now(UTC) + timedelta(seconds=60)
    for text in (format_datetime(soon, usegmt=True), format_datetime(soon).replace("+0000", "-0000")):
        assert 55 <= (parse_retry_after(text) or 0) <= 60
    assert parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0.0
    assert parse_retry_after("Wed, 21 Oct 99999 07:28:00 GMT") is None


@settings(deadline=None)
@given(st.text())
def test_no_retry_after_breaks_anything(value: str) -> None:
    seconds = parse_retry_after(value)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize(
    ("number", "version"), [("3.6.0", (3, 6, 0)), ("2.19.6", (2, 19, 6)), ("10.0.1-SNAPSHOT", (10, 0, 1))]
)
def test_versions(number: str, version: tuple[int, int, int]) -> None:
    assert parse_version(number) == version


@pytest.mark.parametrize("number", ["", "3", "3.6", "a.b.c", "three"])
def test_what_is_no_version(number: str) -> None:
    with pytest.raises(Unsupported, match="cannot be understood"):
        parse_version(number)


def test_an_error_is_told_down_to_its_cause() -> None:
    error = {
        "type": "mapper_parsing_exception",
        "reason": "failed to parse",
        "root_cause": [{"type": "x", "reason": "the root"}],
        "caused_by": {"type": "a", "reason": "first", "caused_by": {"type": "b", "reason": "second"}},
    }
    told = "mapper_parsing_exception: failed to parse (the root) (caused by a: first) (caused by b: second)"
    assert describe_error(error) == told
    assert error_reason({"error": error, "status": 400}) == told
    assert error_reason({"error": "plain"}) == "plain"
    assert error_reason("<html>") == error_reason(None) == error_reason({}) == ""
    assert len(describe_error({"type": "x", "reason": "y" * 5000})) == 1000


# ---- the connection


@pytest.fixture
def fake() -> Iterator[FakeOpenSearch]:
    with FakeOpenSearch() as server:
        yield server


def ask(fake: FakeOpenSearch, **options: Any) -> Any:
    client = connect(SearchSettings(hosts=(fake.url,), **options))
    try:
        return server_info(client)
    finally:
        client.close()


def test_no_hosts_is_said() -> None:
    with pytest.raises(ConfigError, match="no OpenSearch to talk to") as caught:
        connect(SearchSettings())
    assert "node up" in (caught.value.hint or "")


def test_the_local_node_is_the_default_only(fake: FakeOpenSearch) -> None:
    client = connect(SearchSettings(), default_url=fake.url)
    assert server_info(client).version == (3, 6, 0)
    client.close()
    client = connect(SearchSettings(hosts=(fake.url,)), default_url="http://127.0.0.1:1")
    assert server_info(client).version == (3, 6, 0)
    client.close()


@pytest.mark.parametrize(
    "url",
    ["http://", "http://localhost:99999", "http://localhost:port", "http://exa mple", "http://[::1", "https://:9200"],
)
def test_what_is_no_url_is_said(url: str) -> None:
    with pytest.raises(ConfigError, match="is no URL"):
        connect(SearchSettings(hosts=(url,)))


def test_a_wrong_url_does_not_show_its_password() -> None:
    with pytest.raises(ConfigError) as caught:
        connect(SearchSettings(hosts=("http://user:hunter2@host:99999",)))
    assert "hunter2" not in str(caught.value)


def test_a_ca_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"search\.ca_file: .*gone\.pem is not a file"):
        connect(SearchSettings(hosts=("https://localhost:9200",), ca_file=tmp_path / "gone.pem"))


def test_credentials_are_sent(fake: FakeOpenSearch) -> None:
    ask(fake, user="me", password=SecretStr("pässword"))
    ask(fake, token=SecretStr("t0ken"))
    sent = [request.headers.get("authorization") for request in fake.requests]
    assert sent[0] == "Basic bWU6cMOkc3N3b3Jk"
    assert sent[-1] == "Bearer t0ken"


@pytest.mark.parametrize(("status", "told"), [(401, "denies access (401)"), (403, "denies access (403)")])
def test_wrong_credentials_are_said(fake: FakeOpenSearch, status: int, told: str) -> None:
    fake.fault = lambda _request: Fault(status=status)
    with pytest.raises(AccessDenied) as caught:
        ask(fake)
    assert told in str(caught.value)
    assert "LREM_OS__SEARCH__PASSWORD" in (caught.value.hint or "")


def test_plugins_that_may_not_be_listed_are_unknown(fake: FakeOpenSearch) -> None:
    fake.fault = lambda request: Fault(status=403) if request.action == "plugins" else None
    assert ask(fake).plugins is None


@pytest.mark.parametrize(
    ("version", "distribution", "told"),
    [
        ("2.18.0", "opensearch", "OpenSearch 2.18.0 is too old"),
        ("1.3.0", "opensearch", "too old"),
        ("9.1.0", "elasticsearch", r"is not OpenSearch \(it says version 9.1.0\)"),
        ("new", "opensearch", "'new' cannot be understood"),
    ],
)
def test_servers_of_another_kind_are_refused(fake: FakeOpenSearch, version: str, distribution: str, told: str) -> None:
    fake.version, fake.distribution = version, distribution
    with pytest.raises(Unsupported, match=told):
        ask(fake)


@pytest.mark.parametrize("answer", [[], "text", None, {}])
def test_an_answer_of_something_else_is_refused(
    fake: FakeOpenSearch, monkeypatch: pytest.MonkeyPatch, answer: Any
) -> None:
    monkeypatch.setattr(fake, "_info", lambda: answer)
    with pytest.raises(Unsupported, match="is not OpenSearch"):
        ask(fake)


def test_a_web_page_in_place_of_an_answer_is_said(fake: FakeOpenSearch) -> None:
    fake.fault = lambda _request: Fault(status=200, body=b"<html>")
    with pytest.raises(SearchError, match="is not JSON"):
        ask(fake)


def test_nobody_there_is_said() -> None:
    client = connect(SearchSettings(hosts=("http://127.0.0.1:1",)))
    with pytest.raises(SearchUnavailable, match="cannot be reached"):
        server_info(client)
    client.close()


def test_a_slow_answer_is_said(fake: FakeOpenSearch) -> None:
    fake.fault = lambda _request: Fault(delay_s=0.6)
    with pytest.raises(SearchTimeout):
        ask(fake, timeout_s=0.2)


def test_searches_may_have_a_time_limit_of_their_own(fake: FakeOpenSearch) -> None:
    fake.fault = lambda _request: Fault(delay_s=0.6)
    client = connect(SearchSettings(hosts=(fake.url,), timeout_s=60))
    with pytest.raises(SearchTimeout):
        search_many(client, "shop", [{}], timeout_s=0.2)
    client.close()


@pytest.mark.parametrize(("header", "seconds"), [({"Retry-After": "12"}, 12.0), ({}, None)])
def test_retry_after_arrives_at_the_error(fake: FakeOpenSearch, header: dict[str, str], seconds: float | None) -> None:
    fake.fault = lambda _request: Fault(status=429, headers=header)
    client = connect(SearchSettings(hosts=(fake.url,)))
    with pytest.raises(SearchRejected) as caught, translate_errors():
        client.info()
    assert caught.value.retry_after_s == seconds
    fake.fault = lambda _request: Fault(status=429)
    with pytest.raises(SearchRejected) as caught, translate_errors():
        client.info()
    assert caught.value.retry_after_s is None  # that of the answer before is forgotten
    client.close()


def test_another_host_is_tried_at_once(fake: FakeOpenSearch) -> None:
    client = connect(SearchSettings(hosts=("http://127.0.0.1:1", fake.url)))
    for _ in range(3):
        assert server_info(client).version == (3, 6, 0)
    client.close()


def test_a_failure_is_not_logged_with_the_password(fake: FakeOpenSearch, caplog: pytest.LogCaptureFixture) -> None:
    fake.fault = lambda _request: Fault(status=500)
    with pytest.raises(SearchUnavailable):
        ask(fake, user="me", password=SecretStr("hunter2"))
    assert "hunter2" not in caplog.text


@pytest.fixture
def tls(fake: FakeOpenSearch, tmp_path: Path) -> Path:
    """Put the fake behind a certificate that nobody signed; return it."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    options = ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*command, *options, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    fake._server.socket = context.wrap_socket(fake._server.socket, server_side=True, do_handshake_on_connect=False)
    return certificate


def test_tls_is_verified_unless_told_otherwise(fake: FakeOpenSearch, tls: Path) -> None:
    url = fake.url.replace("http://", "https://")

    def ask_tls(**options: Any) -> Any:
        client = connect(SearchSettings(hosts=(url,), **options))
        try:
            return server_info(client).version
        finally:
            client.close()

    with pytest.raises(AccessDenied, match="the TLS connection failed") as caught:
        ask_tls()
    assert "search.ca_file" in (caught.value.hint or "")
    assert ask_tls(ca_file=tls) == (3, 6, 0)
    assert ask_tls(verify_tls=False) == (3, 6, 0)


def test_plain_http_to_a_tls_port_is_said(fake: FakeOpenSearch, tls: Path) -> None:
    with pytest.raises(SearchUnavailable):
        ask(fake, timeout_s=2)


def test_tls_to_a_plain_port_is_said(fake: FakeOpenSearch) -> None:
    client = connect(SearchSettings(hosts=(fake.url.replace("http://", "https://"),), timeout_s=2))
    with pytest.raises((AccessDenied, SearchUnavailable)):
        server_info(client)
    client.close()
