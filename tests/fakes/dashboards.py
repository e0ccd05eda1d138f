"""OpenSearch Dashboards as far as its saved-objects API goes, over real HTTP, with the real one's answers.

Seen on 2.8.0 and 2.19.4: the header that it wants, the extension, missing references, versions that are too new, the
form of success. Read in its source: an import without ``overwrite`` that meets a conflict creates nothing and counts
all the others; workspaces share their ids; tenants do not.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass, field
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.fakes.listening import Listening

Object = dict[str, Any]
Key = tuple[str, str]

NEWEST = {"index-pattern": (7, 6, 0), "visualization": (7, 10, 0), "search": (7, 9, 3), "dashboard": (7, 9, 3)}
_VALIDATED = ("index-pattern", "search")


@dataclass
class Tenant:
    """One tenant's objects, and in which workspace each is."""

    objects: dict[Key, Object] = field(default_factory=dict)
    workspaces: dict[Key, str] = field(default_factory=dict)


class FakeDashboards(Listening):
    """The server. Use as a context manager.

    Attributes:
        tenants: By name; ``""`` is what there is without the security plugin.
        requests: Method and path of each request, in order.
        writes: Those among them that changed something.
        users: Name → password; empty: no security.
        status: Answered to everything, in place of what was asked for.
        base: Path before everything.
    """

    def __init__(self, *, base: str = "") -> None:
        self.tenants: dict[str, Tenant] = {}
        self.requests: list[tuple[str, str]] = []
        self.users: dict[str, str] = {}
        self.status: int | None = None
        self.base = base
        server = _Server(("127.0.0.1", 0), _Handler)
        server.fake = self
        super().__init__(server, base)

    @property
    def objects(self) -> dict[Key, Object]:
        return self.tenants.get("", Tenant()).objects

    @property
    def writes(self) -> list[tuple[str, str]]:
        return [one for one in self.requests if "_bulk_get" not in one[1] and "_export" not in one[1]]

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        """Return status and body."""
        parts = urlsplit(target)
        self.requests.append((method, target))
        if self.status is not None:
            return _problem(self.status, "as told")
        if self.users and not self._is_known(headers.get("authorization", "")):
            return _problem(401, "Authentication required")
        if method != "GET" and "osd-xsrf" not in headers:
            return _problem(400, "Request must contain a osd-xsrf header.")
        match = re.fullmatch(re.escape(self.base) + r"(?:/w/([^/]+))?/api/saved_objects/(.+)", parts.path)
        if match is None:
            return _problem(404, "Not Found")
        tenant = self.tenants.setdefault(headers.get("securitytenant", ""), Tenant())
        workspace, rest = match[1] or "", match[2]
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if (method, rest) == ("POST", "_import"):
            return self._import(tenant, workspace, query.get("overwrite") == "true", headers, body)
        if (method, rest) == ("POST", "_bulk_get"):
            return 200, {"saved_objects": [_found(tenant, one) for one in json.loads(body)]}
        if (method, rest) == ("POST", "_export"):
            return _export(tenant, json.loads(body))
        if method == "DELETE" and rest.count("/") == 1:
            kind, object_id = map(unquote, rest.split("/"))
            if tenant.objects.pop((kind, object_id), None) is None:
                return _problem(404, f"Saved object [{kind}/{object_id}] not found")
            return 200, {}
        return _problem(404, "Not Found")

    def _is_known(self, header: str) -> bool:
        kind, _, rest = header.partition(" ")
        if kind != "Basic":
            return False
        user, _, password = base64.b64decode(rest).decode().partition(":")
        return self.users.get(user) == password

    def _import(
        self, tenant: Tenant, workspace: str, overwrite: bool, headers: dict[str, str], body: bytes
    ) -> tuple[int, Any]:
        name, data = _file_of(headers["content-type"], body)
        extension = PurePath(name).suffix.lower()
        if extension != ".ndjson":
            return _problem(400, f"Invalid file extension {extension}")
        rows: list[Object] = [json.loads(line) for line in data.decode().split("\n") if line]
        for row in rows:
            told = tuple(int(part) for part in row.get("migrationVersion", {}).get(row["type"], "0").split("."))
            if told > NEWEST[row["type"]]:
                return _problem(422, f"Document {row['id']} has property {row['type']} which belongs to a more recent…")
        sent = {(row["type"], row["id"]) for row in rows}
        errors = []
        for row in rows:
            key = (row["type"], row["id"])
            refs = [ref for ref in row.get("references", ()) if ref["type"] in _VALIDATED]
            missing = [
                {"type": ref["type"], "id": ref["id"]}
                for ref in refs
                if (ref["type"], ref["id"]) not in sent | tenant.objects.keys()
            ]
            if missing:
                errors.append(_error(row, {"type": "missing_references", "references": missing}))
            elif key in tenant.objects and (not overwrite or tenant.workspaces[key] != workspace):
                errors.append(_error(row, {"type": "conflict"}))
        failed = {(error["type"], error["id"]) for error in errors}
        good = [row for row in rows if (row["type"], row["id"]) not in failed]
        if not errors:
            for row in good:
                tenant.objects[row["type"], row["id"]] = row
                tenant.workspaces[row["type"], row["id"]] = workspace
        answer: Object = {"successCount": len(good), "success": not errors}
        return 200, answer | ({"errors": errors} if errors else {})


def _found(tenant: Tenant, asked: Object) -> Object:
    key = (asked["type"], asked["id"])
    if key not in tenant.objects:
        return {**asked, "error": {"statusCode": 404, "error": "Not Found", "message": f"Saved object {key} not found"}}
    return tenant.objects[key] | {"version": "WzEsMV0=", "updated_at": "2026-01-05T00:00:00.000Z"}


def _export(tenant: Tenant, body: Object) -> tuple[int, Any]:
    todo = [(one["type"], one["id"]) for one in body["objects"]]
    found: dict[Key, Object] = {}
    while todo:
        key = todo.pop()
        if key in found or key not in tenant.objects:
            continue
        found[key] = tenant.objects[key]
        if body["includeReferencesDeep"]:
            todo += [(ref["type"], ref["id"]) for ref in found[key]["references"]]
    return 200, "\n".join(json.dumps(one) for one in found.values()).encode()


def _error(row: Object, why: Object) -> Object:
    return {"id": row["id"], "type": row["type"], "title": row["attributes"]["title"], "error": why}


def _problem(status: int, message: str) -> tuple[int, Any]:
    return status, {"statusCode": status, "error": "…", "message": message}


def _file_of(content_type: str, body: bytes) -> tuple[str, bytes]:
    """Return name and content of the multipart field ``file``."""
    whole = BytesParser().parsebytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    for part in whole.walk():
        if part.get_param("name", header="content-disposition") == "file":
            data = part.get_payload(decode=True)
            assert isinstance(data, bytes)
            return str(part.get_filename()), data
    raise AssertionError("the request has no file")


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    fake: FakeDashboards


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""

    def _serve(self) -> None:
        fake: FakeDashboards = self.server.fake  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        status, answer = fake.answer(self.command, self.path, headers, body)
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = _serve
