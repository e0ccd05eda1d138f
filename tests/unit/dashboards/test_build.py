from __future__ import annotations

import json
import os
from collections import Counter
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from lrem_os.dashboards.build import Wanted, build_objects
from lrem_os.dashboards.objects import fields_of, to_ndjson
from lrem_os.dashboards.sources import MEASURES
from lrem_os.dashboards.templates import build_templates, retention_policy
from tests.fakes.saved_objects import fields_named, read_objects, searches

GOLDEN = Path(__file__).parents[2] / "golden" / "dashboards" / "lrem-os-dashboards.ndjson"
PACKED = ("visState", "uiStateJSON", "panelsJSON", "optionsJSON", "fields", "fieldFormatMap")


@pytest.fixture(scope="module")
def objects() -> dict[tuple[str, str], dict[str, Any]]:
    return read_objects(to_ndjson(build_objects(Wanted())))


def test_the_golden_file_is_what_is_made() -> None:
    """``LREM_OS_REGEN=1`` writes it anew; look at the difference before you commit it."""
    made = to_ndjson(build_objects(Wanted()))
    if os.environ.get("LREM_OS_REGEN"):
        GOLDEN.write_bytes(made)
    assert made == GOLDEN.read_bytes()


def test_every_reference_resolves_and_comes_before(objects: dict[tuple[str, str], dict[str, Any]]) -> None:
    seen: set[tuple[str, str]] = set()
    for key, one in objects.items():
        names = [ref["name"] for ref in one["references"]]
        assert len(set(names)) == len(names)
        for ref in one["references"]:
            assert (ref["type"], ref["id"]) in seen, f"{key} refers to {ref}"
        seen.add(key)


def test_every_named_reference_is_used_and_every_use_is_named(objects: dict[tuple[str, str], dict[str, Any]]) -> None:
    for key, one in objects.items():
        text = json.dumps(one["attributes"])
        if key[0] == "index-pattern":
            continue
        for ref in one["references"]:
            assert ref["name"] in text, f"{key}: {ref['name']} is named and not used"
        used = text.count("indexRefName") + text.count("indexPatternRefName") + text.count("panelRefName")
        assert used == len(one["references"]), key


def test_every_panel_is_on_a_dashboard_and_none_overlaps(objects: dict[tuple[str, str], dict[str, Any]]) -> None:
    shown: Counter[tuple[str, str]] = Counter()
    for (kind, _), one in objects.items():
        if kind != "dashboard":
            continue
        panels = json.loads(one["attributes"]["panelsJSON"])
        cells: Counter[tuple[int, int]] = Counter()
        for panel in panels:
            place = panel["gridData"]
            assert place["x"] + place["w"] <= 48
            cells.update(
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            )
        assert max(cells.values()) == 1
        shown.update((ref["type"], ref["id"]) for ref in one["references"])
        assert one["attributes"]["timeRestore"] is True
    assert {key for key in objects if key[0] in ("visualization", "search")} == set(shown)


def test_every_field_is_in_a_template(objects: dict[tuple[str, str], dict[str, Any]]) -> None:
    templates = build_templates()
    dynamic = {f"{name}.{measure}" for name in ("value", "delta") for measure in MEASURES}

    def known(title: str) -> set[str]:
        names = set()
        for pattern in title.split(","):
            for body in templates.values():
                if any(fnmatchcase(name, pattern) for name in body["index_patterns"]):
                    mapping = body["template"]["mappings"]
                    names |= set(fields_of(mapping["properties"]))
                    made = {next(iter(rule.values()))["path_match"] for rule in mapping.get("dynamic_templates", ())}
                    names |= {name for name in dynamic if any(fnmatchcase(name, path) for path in made)}
        return names

    asked = list(fields_named(objects))
    assert len(asked) > 150
    assert [one for one in asked if one[2] not in known(one[1])] == []
    for (kind, _), one in objects.items():
        if kind == "index-pattern":
            told = {field["name"] for field in json.loads(one["attributes"]["fields"])}
            assert told <= known(one["attributes"]["title"])
            assert {name for _, title, name in asked if title == one["attributes"]["title"]} <= told
            assert set(json.loads(one["attributes"].get("fieldFormatMap", "{}"))) <= told


def test_what_is_summed_is_a_number_and_what_is_grouped_has_values(
    objects: dict[tuple[str, str], dict[str, Any]],
) -> None:
    patterns = {
        key[1]: {field["name"]: field for field in json.loads(one["attributes"]["fields"])}
        for key, one in objects.items()
        if key[0] == "index-pattern"
    }
    numeric = {"avg": {"number"}, "sum": {"number"}, "percentiles": {"number"}, "max": {"number", "date"}}
    for (kind, name), one in objects.items():
        if kind != "visualization":
            continue
        aggs = json.loads(one["attributes"]["visState"])["aggs"]
        ids = {agg["id"]: agg for agg in aggs}
        for agg in aggs:
            if "field" not in agg["params"]:
                continue
            [ref] = [ref for ref in one["references"] if ref["name"].endswith("searchSourceJSON.index")]
            field = patterns[ref["id"]][agg["params"]["field"]]
            assert field["aggregatable"], f"{name}: {field['name']}"
            assert field["type"] in numeric.get(agg["type"], {field["type"]}), (
                f"{name}: {agg['type']} of {field['name']}"
            )
            by = agg["params"].get("orderBy", "_key")
            assert by == "_key" or ids[by.split(".")[0]]["schema"] == "metric", name
            if by != "_key":  # Dashboards sorts by none of these
                assert ids[by.split(".")[0]]["type"] not in ("top_hits", "percentiles"), name


def test_strings_that_hold_json_hold_json(objects: dict[tuple[str, str], dict[str, Any]]) -> None:
    for one in objects.values():
        attributes = one["attributes"]
        for name in PACKED:
            if name in attributes:
                assert json.loads(attributes[name]) is not None
        if "kibanaSavedObjectMeta" in attributes:
            json.loads(attributes["kibanaSavedObjectMeta"]["searchSourceJSON"])


def test_the_time_picker_and_filters_reach_every_panel(objects: dict[tuple[str, str], dict[str, Any]]) -> None:
    asked = {search.panel.partition("[")[0]: search for search in searches(objects)}
    silent = {name for kind, name in objects if kind in ("visualization", "search")} - set(asked)
    assert all("-note" in name for name in silent), "a panel that sends no search is text"
    assert len(silent) == 4
    assert {search.time_field for search in asked.values()} == {"timestamp", "@timestamp"}


def test_a_workspace_has_objects_of_its_own() -> None:
    plain = {(one.kind, one.object_id) for one in build_objects(Wanted())}
    other = build_objects(Wanted(workspace="ops"))
    assert not plain & {(one.kind, one.object_id) for one in other}
    assert all(one.object_id.startswith("lrem-os-ops-") for one in other)


def test_a_price_is_shown_where_one_is_known() -> None:
    objects = read_objects(to_ndjson(build_objects(Wanted(gpu_hour_price=1.2, currency="EUR"))))
    cost = objects["visualization", "lrem-os-traffic-cost"]
    assert "EUR" in cost["attributes"]["title"]
    spec = json.loads(json.loads(cost["attributes"]["visState"])["params"]["spec"])
    [calculated] = spec["transform"]
    # 50 ms of waiting a search, at 1.2 an hour: 1000 * 50 / 3.6e6 * 1.2
    formula = calculated["calculate"].replace("datum.reason.value", "100.0").replace("datum.searches.value", "2.0")
    assert eval(formula) == pytest.approx(1000 * 50 / 3_600_000 * 1.2)


@pytest.mark.parametrize(("age", "hours", "part"), [("30d", "720h", "72h"), ("5h", "5h", "1h")])
def test_a_record_lives_for_the_age_and_little_longer(age: str, hours: str, part: str) -> None:
    written, deleted = retention_policy(age)["policy"]["states"]
    assert written["actions"] == [{"rollover": {"min_index_age": part}}]
    assert written["transitions"][0]["conditions"] == {"min_rollover_age": hours}
    assert deleted["actions"] == [{"delete": {}}]
