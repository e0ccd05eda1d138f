from __future__ import annotations

from pathlib import Path

import pytest

from lrem_os.config import Settings, load_settings
from lrem_os.config_runs import NamedRun, with_overrides
from lrem_os.errors import ConfigError


def load(tmp_path: Path, runs: str) -> Settings:
    path = tmp_path / "shop.yaml"
    path.write_text(f"eval:\n  top_k: 50\n  runs:\n    {runs}\n")
    return load_settings(path).settings


def test_runs_with_names(tmp_path: Path) -> None:
    settings = load(tmp_path, "deep: {mode: vector, search: {candidates: 400}}\n    some: {route: 12.5%}")
    assert settings.eval.runs == {
        "deep": NamedRun(mode="vector", search={"candidates": 400}),
        "some": NamedRun(route="12.5%"),
    }


def test_a_variable_and_an_option_can_name_runs_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LREM_OS__EVAL__RUNS", "{a: {reason: true}}")
    assert load_settings().settings.eval.runs == {"a": NamedRun(reason=True)}
    assert load_settings(None, ["eval.runs={b: {}}"]).settings.eval.runs == {"b": NamedRun()}


def test_they_are_shown_as_they_were_written() -> None:
    loaded = load_settings(None, ["eval.runs={b: {search: {fusion: rrf}}}"])
    assert loaded.shown()["eval.runs"] == {"b": {"search": {"fusion": "rrf"}}}
    assert loaded.settings_hash != load_settings().settings_hash


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ("x: {search: {weights: [0.9, 0.2]}}", "eval.runs.x.search: search.weights is [0.9, 0.2], which sums to 1.1"),
        ("x: {search: {candidates: 0}}", "eval.runs.x.search.candidates is 0: Input should be greater than or equal"),
        ("x: {search: {wieghts: [1, 0]}}", "eval.runs.x.search.wieghts is no key; keys that a run may set: candidates"),
        ("x: {search: {password: s}}", "eval.runs.x.search.password is the same for all runs"),
        ("x: {search: {mode: bm25}}", "eval.runs.x.search.mode is the same for all runs"),
        ("x: {reasoning: {api_key: s}}", "eval.runs.x.reasoning.api_key is the same for all runs"),
        ("x: {reasoning: {samples: many}}", "eval.runs.x.reasoning.samples is 'many': Input should be a valid integer"),
        ("x: {reasoning: {backend: openai}}", "reasoning.backend is openai: set reasoning.url"),
        ("x: {route: 130%}", "runs.x.route: '130%' is no share"),
        ("x: {route: 0.3}", "runs.x.route: Input should be a valid string"),
        ("x: {mode: fast}", "runs.x.mode: Input should be 'bm25', 'vector' or 'hybrid'"),
        ("x: {moed: bm25}", "runs.x.moed: Extra inputs are not permitted"),
        ("x: {reason: true, route: configured}", "reason is true and route is set"),
        ("x: {mode: bm25, route: 30%}", "the router reads vectors"),
        ("x: 3", "runs.x: Input should be a valid dictionary"),
        ("direct: {}", "'direct' is the name of a run that there is without configuration"),
        ("routed@5%: {}", "'routed@5%' is the name of a run that there is"),
        ("bm25+reason: {}", "'bm25+reason' is the name of a run that there is"),
        ("a b: {}", "'a b' is no name of a run"),
        ("../x: {}", "'../x' is no name of a run"),
    ],
)
def test_what_cannot_be_used_is_named_with_file_and_line(tmp_path: Path, runs: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, runs)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path}/shop.yaml:3: ")


def test_rules_over_several_keys_hold_for_the_section_as_it_becomes() -> None:
    settings = Settings.model_validate({"reasoning": {"url": "http://a/v1", "name": "m"}})
    changed = with_overrides(settings.reasoning, {"backend": "openai"}, "eval.runs.x.reasoning")
    assert (changed.backend, changed.url) == ("openai", "http://a/v1")


def test_a_secret_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "x: {search: {password: hunter2}}")
    assert "hunter2" not in str(caught.value)
