"""The wire before a real socket: what is sent arrives as it was told, and every way to fail has its name."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from lrem_os.query_plugin.service.wire import AiohttpWire, Answer, CannotSend, TooSlow, Unreachable

pytest.importorskip("aiohttp")

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Twice: a\r\nX-Twice: b\r\n\r\n{}"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def read_request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), 0
    )
    return head + await reader.readexactly(length)


def talk(
    handler: Handler,
    work: Callable[[AiohttpWire, str], Awaitable[None]],
    *,
    timeout_s: float = 30,
    serving: ssl.SSLContext | None = None,
    asking: ssl.SSLContext | None = None,
) -> None:
    """Run work against a server that does with each connection as the handler says; with TLS where it is given."""

    async def run() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await handler(reader, writer)
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=serving)
        wire = AiohttpWire(connect_s=30, timeout_s=timeout_s, max_connections=4, tls=asking)
        try:
            scheme = "http" if serving is None else "https"
            await work(wire, f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        finally:
            await wire.aclose()
            server.close()

    asyncio.run(run())


def test_nothing_is_added_decoded_or_followed() -> None:
    seen: list[bytes] = []
    answers = [
        OK,
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8bzz",
    ]

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            seen.append(await read_request(reader))
            writer.write(answer)
            await writer.drain()

    async def work(wire: AiohttpWire, url: str) -> None:
        path = "/a%2Fb/_search?q=%zz&x=%C3%A9+%20,"
        headers = [(b"x-name", "é".encode()), (b"x-twice", b"1"), (b"x-twice", b"2")]
        assert await wire.send("GET", url + path, headers, b'{"a":1}') == Answer(
            200, ((b"Content-Length", b"2"), (b"X-Twice", b"a"), (b"X-Twice", b"b")), b"{}"
        )
        assert (await wire.send("POST", url + "/", [], b"")).status == 302
        assert (await wire.send("POST", url + "/", [], b"{}")).body == b"\x1f\x8bzz"

    talk(handler, work)
    head, body = seen[0].split(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    assert (first, body) == (b"GET /a%2Fb/_search?q=%zz&x=%C3%A9+%20, HTTP/1.1", b'{"a":1}')
    names = [line.split(b":")[0].lower() for line in lines]
    assert sorted(names) == [b"content-length", b"host", b"x-name", b"x-twice", b"x-twice"]
    assert "x-name: é".encode() in lines
    assert b"cookie" not in seen[2].lower()


async def close_at_once(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    return


async def close_without_an_answer(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await read_request(reader)


async def cut_the_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(OK.replace(b"Length: 2", b"Length: 200"))
    await writer.drain()


async def talk_nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    await writer.drain()


@pytest.mark.parametrize("handler", [close_at_once, close_without_an_answer, cut_the_answer, talk_nonsense])
def test_a_broken_connection_is_unreachable(handler: Handler) -> None:
    async def work(wire: AiohttpWire, url: str) -> None:
        with pytest.raises(Unreachable):
            await wire.send("POST", url + "/", [], b"{}")

    talk(handler, work)


def test_no_server_is_unreachable() -> None:
    async def work(wire: AiohttpWire, _url: str) -> None:
        with pytest.raises(Unreachable):
            await wire.send("POST", "http://127.0.0.1:1/", [], b"{}")

    talk(close_at_once, work)


def test_an_answer_that_does_not_come_is_too_slow() -> None:
    async def never(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await reader.read()  # until the other side gives up

    async def work(wire: AiohttpWire, url: str) -> None:
        with pytest.raises(TooSlow):
            await wire.send("POST", url + "/", [], b"{}")

    talk(never, work, timeout_s=2)


def test_what_is_no_http_is_refused() -> None:
    async def work(wire: AiohttpWire, url: str) -> None:
        for headers in ([(b"a", b"b\r\nc: d")], [(b"a", b"\xff")]):
            with pytest.raises(CannotSend):
                await wire.send("POST", url + "/", headers, b"{}")

    talk(close_at_once, work)


def test_a_certificate_is_checked_and_a_wrong_one_is_the_hosts_fault(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command to make a certificate with")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(cert), "-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(command, check=True, capture_output=True)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(cert, key)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        await writer.drain()

    async def is_refused(wire: AiohttpWire, url: str) -> None:
        with pytest.raises(Unreachable):
            await wire.send("POST", url + "/", [], b"{}")

    async def is_answered(wire: AiohttpWire, url: str) -> None:
        assert (await wire.send("POST", url + "/", [], b"{}")).status == 200

    talk(answer, is_refused, serving=serving, asking=ssl.create_default_context())
    talk(answer, is_answered, serving=serving, asking=ssl.create_default_context(cafile=str(cert)))
    careless = ssl.create_default_context()
    careless.check_hostname, careless.verify_mode = False, ssl.CERT_NONE
    talk(answer, is_answered, serving=serving, asking=careless)
