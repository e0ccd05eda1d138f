from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lrem_os.config import SearchSettings, Settings
from lrem_os.config_dashboards import DashboardsSettings
from lrem_os.dashboards import install as library
from lrem_os.dashboards.build import Wanted, build_objects
from lrem_os.dashboards.install import export, install, remove
from lrem_os.errors import AccessDenied, ConfigError, InputError, RequestRejected, SearchTimeout, SearchUnavailable
from tests.conftest import free_port
from tests.fakes.dashboards import NEWEST, FakeDashboards
from tests.fakes.saved_objects import read_objects

KEYS = {(one.kind, one.object_id) for one in build_objects(Wanted())}


@pytest.fixture
def server() -> Iterator[FakeDashboards]:
    with FakeDashboards() as fake:
        yield fake


def settings_of(url: str, search: dict[str, Any] | None = None, **more: Any) -> Settings:
    dashboards = DashboardsSettings.model_validate({"url": url, "timeout_s": 20, **more})
    return Settings(dashboards=dashboards, search=SearchSettings.model_validate(search or {}))


def put(server: FakeDashboards, **more: Any) -> library.Outcome:
    overwrite = more.pop("overwrite", False)
    return install(settings_of(server.url, **more), overwrite=overwrite, with_templates=False)


def change(server: FakeDashboards, key: tuple[str, str]) -> None:
    """Rename an object, as somebody may in Dashboards."""
    one = server.objects[key]
    server.objects[key] = one | {"attributes": one["attributes"] | {"title": "Mine"}}


def test_everything_is_there_after_one_import(server: FakeDashboards) -> None:
    outcome = put(server)
    assert set(server.objects) == KEYS
    assert len(outcome.created) == len(KEYS)
    assert server.writes == [("POST", "/api/saved_objects/_import?overwrite=true")]


def test_a_second_time_sends_nothing(server: FakeDashboards) -> None:
    put(server)
    before = dict(server.objects)
    server.objects["index-pattern", "lrem-os-searches"]["attributes"]["fields"] = "[]"  # as Dashboards fills it anew
    for overwrite in (False, True):
        outcome = put(server, overwrite=overwrite)
        assert len(outcome.unchanged) == len(KEYS)
    assert len(server.writes) == 1
    assert server.objects == before


def test_install_leaves_a_change_alone_and_update_does_not(server: FakeDashboards) -> None:
    put(server)
    key = ("visualization", "lrem-os-traffic-why")
    del server.objects["dashboard", "lrem-os-ingest"]
    change(server, key)
    outcome = put(server)
    assert (outcome.created, outcome.different) == (["dashboard lrem-os-ingest"], [" ".join(key)])
    assert server.objects[key]["attributes"]["title"] == "Mine"
    outcome = put(server, overwrite=True)
    assert (outcome.updated, outcome.different) == ([" ".join(key)], [])
    assert server.objects[key]["attributes"]["title"] != "Mine"


def test_update_deletes_what_an_earlier_version_had_and_nothing_of_others(server: FakeDashboards) -> None:
    put(server)
    page = server.objects["dashboard", "lrem-os-traffic"]
    for name in ("lrem-os-traffic-gone", "theirs"):
        old = {"type": "visualization", "id": name, "attributes": {"title": name}, "references": []}
        server.objects["visualization", name] = old
        page["references"].append({"name": f"panel_{name}", "type": "visualization", "id": name})
    outcome = put(server, overwrite=True)
    assert outcome.removed == ["visualization lrem-os-traffic-gone"]
    assert set(server.objects) == KEYS | {("visualization", "theirs")}


def test_remove_takes_ours_and_leaves_the_rest(server: FakeDashboards) -> None:
    put(server)
    server.objects["visualization", "theirs"] = {"type": "visualization", "id": "theirs"}
    settings = settings_of(server.url)
    assert len(remove(settings, with_templates=False).removed) == len(KEYS)
    assert set(server.objects) == {("visualization", "theirs")}
    assert remove(settings, with_templates=False).removed == []


def test_a_tenant_and_a_workspace_have_their_own(server: FakeDashboards) -> None:
    put(server)
    put(server, tenant="global")
    put(server, workspace="ops")
    assert set(server.tenants["global"].objects) == KEYS
    assert len(server.objects) == 2 * len(KEYS)
    assert set(server.tenants[""].workspaces.values()) == {"", "ops"}
    remove(settings_of(server.url, workspace="ops"), with_templates=False)
    assert set(server.objects) == KEYS
    assert set(server.tenants["global"].objects) == KEYS


def test_a_base_path_is_kept() -> None:
    with FakeDashboards(base="/_dashboards") as server:
        assert len(put(server).created) == len(KEYS)
        with pytest.raises(RequestRejected, match=r"no saved-objects API at .*\(404\)"):
            install(settings_of(server.url.removesuffix("/_dashboards")), with_templates=False)


def test_credentials_are_those_of_dashboards_or_of_the_cluster(server: FakeDashboards) -> None:
    server.users = {"ops": "sécret"}
    with pytest.raises(AccessDenied, match="denies access"):
        put(server)
    put(server, user="ops", password="sécret")
    cluster = {"user": "ops", "password": "sécret"}
    outcome = install(settings_of(server.url, cluster), with_templates=False)
    assert len(outcome.unchanged) == len(KEYS)


def test_export_brings_the_changes_of_users(server: FakeDashboards, tmp_path: Path) -> None:
    put(server)
    key = ("visualization", "lrem-os-traffic-why")
    change(server, key)
    path = tmp_path / "backup.ndjson"
    assert export(settings_of(server.url), path) == len(KEYS)
    objects = read_objects(path.read_bytes())
    assert set(objects) == KEYS
    assert objects[key]["attributes"]["title"] == "Mine"


def test_nothing_to_export(server: FakeDashboards, tmp_path: Path) -> None:
    with pytest.raises(RequestRejected, match="none of our dashboards"):
        export(settings_of(server.url), tmp_path / "x.ndjson")


def test_what_dashboards_refuses_is_named(server: FakeDashboards, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_patterns(wanted: Wanted) -> Any:
        return [one for one in build_objects(wanted) if one.kind != "index-pattern"]

    monkeypatch.setattr(library, "build_objects", without_patterns)
    with pytest.raises(RequestRejected, match=r"visualization lrem-os-.* \(missing_references: index-pattern lrem-os-"):
        put(server)


def test_a_server_that_is_older_than_the_objects(server: FakeDashboards, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NEWEST, "visualization", (7, 9, 0))
    with pytest.raises(RequestRejected, match=r"\(422\): .*more recent"):
        put(server)


@pytest.mark.parametrize(
    ("status", "error"),
    [(302, AccessDenied), (403, AccessDenied), (500, SearchUnavailable), (504, SearchTimeout), (413, RequestRejected)],
)
def test_an_error_of_the_server(server: FakeDashboards, status: int, error: type[Exception]) -> None:
    server.status = status
    with pytest.raises(error, match=str(status)):
        put(server)


def test_nobody_listens() -> None:
    with pytest.raises(SearchUnavailable, match="cannot be reached at http://127"):
        install(settings_of(f"http://127.0.0.1:{free_port()}"), with_templates=False)


def test_bad_settings(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a file"):
        install(settings_of("https://127.0.0.1:1", {"ca_file": tmp_path / "none"}), with_templates=False)
    with pytest.raises(InputError, match="cannot be written"):
        library.write_file(settings_of("http://127.0.0.1:1"), tmp_path)


def test_the_file_of_a_dry_run_is_what_is_sent(server: FakeDashboards, tmp_path: Path) -> None:
    path = tmp_path / "x.ndjson"
    library.write_file(settings_of(server.url), path)
    put(server)
    assert read_objects(path.read_bytes()) == server.objects
