"""OpenSearch Dashboards over HTTP: its saved-objects API, and its errors as ours.

Source: OpenSearch Dashboards 2.19 and 3.x, ``core/server/saved_objects/routes``. An import without ``overwrite`` that
meets one object that is there creates none of the others and still counts them, so what is missing is looked up first.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson
import urllib3

from lrem_os.config import SearchSettings
from lrem_os.config_dashboards import DashboardsSettings
from lrem_os.config_fields import without_userinfo
from lrem_os.dashboards.objects import SavedObject, to_ndjson
from lrem_os.errors import (
    AccessDenied,
    ConfigError,
    LremError,
    RequestRejected,
    SearchTimeout,
    SearchUnavailable,
)

Key = tuple[str, str]
"""Type and id."""

_FILE = "lrem-os.ndjson"  # the import looks at the end of the name
_API = "/api/saved_objects"
_HINT = "set dashboards.url, or --dashboards-url; with the base path where Dashboards has one"


@dataclass(frozen=True, slots=True)
class Stored:
    """An object as Dashboards has it."""

    attributes: Mapping[str, Any]
    references: tuple[Mapping[str, Any], ...]


class Dashboards:
    """One server, one tenant, one workspace.

    Args:
        settings: Address, tenant, workspace.
        search: Credentials and TLS, where the former has none.

    Raises:
        ConfigError: ``search.ca_file`` is no file.
    """

    def __init__(self, settings: DashboardsSettings, search: SearchSettings) -> None:
        self.url = settings.url.rstrip("/")
        self._base = f"{self.url}/w/{settings.workspace}" if settings.workspace else self.url
        self._headers = {"osd-xsrf": "true", **_credentials(settings, search)}
        if settings.tenant is not None:
            self._headers["securitytenant"] = settings.tenant
        self._http = _pool(settings, search)

    def stored(self, keys: Collection[Key]) -> dict[Key, Stored]:
        """Return those of these objects that are there."""
        asked = [{"type": kind, "id": object_id} for kind, object_id in keys]
        if not asked:
            return {}
        answer = self._json("POST", f"{_API}/_bulk_get", body=orjson.dumps(asked), missing={})
        return {
            (one["type"], one["id"]): Stored(one.get("attributes", {}), tuple(one.get("references", ())))
            for one in answer.get("saved_objects", ())
            if "error" not in one
        }

    def write(self, objects: Iterable[SavedObject]) -> None:
        """Create objects, or put them in the place of those with their ids.

        Raises:
            RequestRejected: Dashboards refused some; the message names each with its reason.
        """
        fields = {"file": (_FILE, to_ndjson(objects), "application/ndjson")}
        answer = self._json("POST", f"{_API}/_import?overwrite=true", fields=fields)
        if not answer.get("success"):
            reasons = [_refusal(error) for error in answer.get("errors", ())] or ["it does not say why"]
            raise RequestRejected(
                f"Dashboards refused {len(reasons)} objects: {'; '.join(reasons[:5])}",
                hint="lrem-os dashboards install --dry-run writes what was sent",
            )

    def delete(self, key: Key) -> bool:
        """Delete an object; return whether it was there."""
        path = f"{_API}/{quote(key[0], safe='')}/{quote(key[1], safe='')}"
        return self._json("DELETE", path, missing=None) is not None

    def export(self, keys: Collection[Key]) -> bytes:
        """Return objects and all that they refer to, as the import takes them."""
        body = {
            "objects": [{"type": kind, "id": object_id} for kind, object_id in keys],
            "includeReferencesDeep": True,
            "excludeExportDetails": True,
        }
        return self._send("POST", f"{_API}/_export", body=orjson.dumps(body)) + b"\n"

    def _json(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        fields: Mapping[str, Any] | None = None,
        missing: Any = ...,
    ) -> Any:
        """Return an answer; where there is no such thing (404), ``missing``, if it is given."""
        try:
            data = self._send(method, path, body=body, fields=fields)
        except _Missing:
            if missing is not ...:
                return missing
            raise
        try:
            return orjson.loads(data or b"{}")
        except orjson.JSONDecodeError as exc:
            raise RequestRejected(f"{self._shown} does not answer as Dashboards does", hint=_HINT) from exc

    def _send(
        self, method: str, path: str, *, body: bytes | None = None, fields: Mapping[str, Any] | None = None
    ) -> bytes:
        headers = dict(self._headers)
        if body is not None:
            headers["content-type"] = "application/json"
        try:
            answer = self._http.request(
                method, self._base + path, headers=headers, body=body, fields=fields, redirect=False
            )
        except urllib3.exceptions.HTTPError as exc:
            raise self._unreachable(exc) from exc
        if answer.status >= 300:
            raise self._refused(answer.status, answer.data)
        return answer.data

    @property
    def _shown(self) -> str:
        return without_userinfo(self.url)

    def _unreachable(self, exc: urllib3.exceptions.HTTPError) -> LremError:
        cause = exc.reason if isinstance(exc, urllib3.exceptions.MaxRetryError) and exc.reason is not None else exc
        is_late = isinstance(cause, urllib3.exceptions.TimeoutError)
        if is_late and not isinstance(cause, urllib3.exceptions.NewConnectionError):
            return SearchTimeout(
                f"Dashboards at {self._shown} did not answer in time", hint="raise dashboards.timeout_s"
            )
        if isinstance(cause, urllib3.exceptions.SSLError):
            return AccessDenied(f"the TLS connection to {self._shown} failed: {cause}", hint="set search.ca_file")
        if isinstance(cause, urllib3.exceptions.LocationValueError):
            return ConfigError(f"dashboards.url is {self._shown!r}, which is no address", hint=_HINT)
        return SearchUnavailable(f"Dashboards cannot be reached at {self._shown}: {cause}", hint=_HINT)

    def _refused(self, status: int, data: bytes) -> LremError:
        reason = _reason(data)
        if status in (301, 302, 303, 307, 308, 401, 403):
            return AccessDenied(
                f"Dashboards at {self._shown} denies access ({status}){reason}",
                hint="set dashboards.user and LREM_OS__DASHBOARDS__PASSWORD; is the tenant yours to write?",
            )
        if status == 404:
            return _Missing(f"there is no saved-objects API at {self._base} (404){reason}", hint=_HINT)
        if status in (408, 504):
            return SearchTimeout(f"Dashboards at {self._shown} did not answer in time ({status})")
        if status >= 500:
            return SearchUnavailable(f"Dashboards at {self._shown} failed ({status}){reason}")
        return RequestRejected(f"Dashboards at {self._shown} refused the request ({status}){reason}")


class _Missing(RequestRejected):
    """404."""


def _credentials(settings: DashboardsSettings, search: SearchSettings) -> dict[str, str]:
    user, password = (settings.user, settings.password) if settings.user is not None else (search.user, search.password)
    if user is not None and password is not None:
        pair = f"{user}:{password.get_secret_value()}".encode()
        return {"authorization": f"Basic {base64.b64encode(pair).decode()}"}
    return {} if search.token is None else {"authorization": f"Bearer {search.token.get_secret_value()}"}


def _pool(settings: DashboardsSettings, search: SearchSettings) -> urllib3.PoolManager:
    if search.ca_file is not None and not search.ca_file.is_file():
        raise ConfigError(f"search.ca_file: {search.ca_file} is not a file")
    options: dict[str, Any] = {"timeout": settings.timeout_s, "retries": False}
    if settings.url.startswith("https://"):
        options["cert_reqs"] = "CERT_REQUIRED" if search.verify_tls else "CERT_NONE"
        if search.ca_file is not None:
            options["ca_certs"] = str(search.ca_file)
    return urllib3.PoolManager(**options)


def _reason(data: bytes) -> str:
    """Return what an error answer says, after a colon; empty: it says nothing that is to be shown."""
    try:
        message = orjson.loads(data)["message"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ""
    return f": {str(message)[:300]}"


def _refusal(error: Mapping[str, Any]) -> str:
    """Return one entry of ``errors``: which object, and why."""
    why = error.get("error", {})
    missing = ", ".join(f"{ref['type']} {ref['id']}" for ref in why.get("references", ()))
    details = missing or why.get("message", "")
    return f"{error.get('type')} {error.get('id')} ({why.get('type', 'unknown')}{f': {details}' if details else ''})"
