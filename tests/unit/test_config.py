from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lrem_os.config import LoadedSettings, Settings, cache_dir, load_settings
from lrem_os.config_fields import MASK, allowed_values, field_of, keys_of
from lrem_os.config_layers import env_name
from lrem_os.config_template import template, write_template
from lrem_os.errors import ConfigError

SECRET = "hunter2-very-secret"


@pytest.fixture(autouse=True)
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("LREM_OS__"):
            monkeypatch.delenv(name)
    return tmp_path


def refusal(content: str | bytes = "", *overrides: str) -> str:
    """Write a file, load it, return the complaint with its hint."""
    path = Path("my.yaml")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        load_settings(path, overrides)
    return f"{caught.value} → {caught.value.hint}"


def test_without_a_file_everything_is_a_default() -> None:
    loaded = load_settings()
    assert loaded.settings == Settings()
    assert loaded.path is None
    assert set(loaded.sources.values()) == {"default"}
    assert list(loaded.sources) == keys_of(Settings)


def test_each_layer_wins_over_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("lrem-os.yaml").write_text("search:\n  candidates: 1\n  rank_constant: 1\n  timeout_s: 1\n")
    monkeypatch.setenv("LREM_OS__SEARCH__RANK_CONSTANT", "2")
    monkeypatch.setenv("LREM_OS__SEARCH__TIMEOUT_S", "2")
    loaded = load_settings(overrides=["search.timeout_s=3"])
    search = loaded.settings.search
    assert (search.candidates, search.rank_constant, search.timeout_s) == (1, 2, 3.0)
    assert loaded.path == Path("lrem-os.yaml")
    assert loaded.sources["search.candidates"] == "lrem-os.yaml:2"
    assert loaded.sources["search.rank_constant"] == "env LREM_OS__SEARCH__RANK_CONSTANT"
    assert loaded.sources["search.timeout_s"] == "--set"
    assert loaded.sources["search.mode"] == "default"


def test_a_named_file_replaces_the_one_in_the_working_directory() -> None:
    Path("lrem-os.yaml").write_text("index: {name: here}")
    Path("other.yaml").write_text("index: {name: there}")
    assert load_settings("other.yaml").settings.index.name == "there"


@pytest.mark.parametrize("content", ["", "# nothing\n", "search:\n", "search:\n  # mode: bm25\n", "\ufeffsearch: {}\n"])
def test_files_that_say_nothing(content: str) -> None:
    Path("my.yaml").write_text(content, encoding="utf-8")
    assert load_settings("my.yaml").settings == Settings()


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("search.hosts=http://a:9200, https://b", "hosts", ("http://a:9200", "https://b")),
        ("search.hosts=[http://a:9200, https://b]", "hosts", ("http://a:9200", "https://b")),
        ("search.weights=[0.3, 0.7]", "weights", (0.3, 0.7)),
        ("search.verify_tls=no", "verify_tls", False),
        ("search.ca_file=null", "ca_file", None),
        ("search.ca_file=/etc/ca.pem", "ca_file", Path("/etc/ca.pem")),
    ],
)
def test_values_of_set(text: str, key: str, value: Any) -> None:
    assert getattr(load_settings(overrides=[text]).settings.search, key) == value


def test_text_is_taken_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LREM_OS__SEARCH__USER", "007")
    monkeypatch.setenv("LREM_OS__SEARCH__PASSWORD", "12345 # no: comment")
    loaded = load_settings(
        overrides=["model.query_prefix=Query: find", "model.item_prefix='it: '", "model.revision=1.0"]
    )
    password = loaded.settings.search.password
    assert loaded.settings.search.user == "007"
    assert password is not None
    assert password.get_secret_value() == "12345 # no: comment"
    assert loaded.settings.model.query_prefix == "Query: find"
    assert loaded.settings.model.item_prefix == "it: "
    assert loaded.settings.model.revision == "1.0"


def test_the_last_of_equal_overrides_wins_and_an_empty_variable_sets_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LREM_OS__INDEX__NAME", "")
    loaded = load_settings(overrides=["index.m=4", "index.m=8"])
    assert loaded.settings.index.m == 8
    assert loaded.sources["index.name"] == "default"


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("serach: {}", ["my.yaml:1", "'serach'", "did you mean search?"]),
        ("search:\n  timout_s: 1", ["my.yaml:2", "'search.timout_s'", "did you mean search.timeout_s?"]),
        ("search:\n  port: 1", ["'search.port'", "did you mean node.port?", "keys of search: engine, hosts, user"]),
        ("\nsearch:\n  mode: fuzzy", ["my.yaml:3", "search.mode", "'fuzzy'", "allowed: bm25, vector, hybrid"]),
        ("search: {timeout_s: abc}", ["my.yaml:1", "search.timeout_s", "'abc'", "allowed: a number > 0"]),
        ("search: {timeout_s: .inf}", ["search.timeout_s", "inf"]),
        ("search: {candidates: yes}", ["search.candidates", "True", "a whole number from 1 to 10000"]),
        ("search: {weights: [0.2, 0.2]}", ["my.yaml:1", "search.weights", "0.4"]),
        ("search: {mode: x, fusion: y}", ["search.mode", "search.fusion"]),
        ("node: {version: 3.6}", ["node.version is 3.6", "put it in quotes"]),
        ("catalog: {text: {title: -1}}", ["catalog.text", "-1", "a mapping of names to numbers > 0"]),
        ("search:\n  mode: bm25\n  mode: bm25", ["my.yaml:3", "'mode' stands twice", "line 2"]),
        ("catalog:\n  text:\n    title: 1\n    title: 2", ["my.yaml:4", "'title' stands twice"]),
        ("search: {}\nsearch: {}", ["my.yaml:2", "'search' stands twice"]),
        ("search: {mode: [}", ["my.yaml:1, column 17", "not valid YAML"]),
        ("a: 1\n---\nb: 2", ["not valid YAML", "another document"]),
        ("just words", ["must be a mapping", "plain text"]),
        ("[1, 2]", ["must be a mapping", "a list"]),
        ("search: [1]", ["the section search must be a mapping", "a list"]),
        ("? [a]\n: 1", ["has a list as a name"]),
        ("model: {revision: 2024-13-45}", ["not valid YAML", "month"]),
        ("model: {name: !!python/name:os.system x}", ["not valid YAML", "python/name"]),
        ("catalog: {keyword: &a [*a]}", ["alias"]),
        ("a: " + "[" * 5000, ["nested too deep"]),
        (b"\x00", ["not valid YAML"]),
        (b"index: {name: caf\xe9}", ["byte 0xe9 at offset 17 is not UTF-8"]),
    ],
)
def test_refused_files(content: str | bytes, parts: list[str]) -> None:
    complaint = refusal(content)
    assert [part for part in parts if part not in complaint] == [], complaint


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("search.mode", ["--set search.mode: no '='"]),
        ("search.mod=bm25", ["--set", "did you mean search.mode?"]),
        ("mode=bm25", ["--set", "'mode'"]),
        ("search.mode=fuzzy", ["--set: search.mode is 'fuzzy'"]),
        ("search.weights=[", ["--set: search.weights is '['"]),
        ("search.user=me", ["--set: search.user and search.password go together"]),
    ],
)
def test_refused_overrides(override: str, parts: list[str]) -> None:
    complaint = refusal("", override)
    assert [part for part in parts if part not in complaint] == [], complaint


def test_refused_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LREM_OS__SEARCH__HOST", "http://a")
    assert "did you mean LREM_OS__SEARCH__HOSTS?" in refusal()
    monkeypatch.delenv("LREM_OS__SEARCH__HOST")
    monkeypatch.setenv("LREM_OS__NODE__PORT", "80")
    assert "env LREM_OS__NODE__PORT: node.port is 80" in refusal()


def test_paths_that_are_no_file(workdir: Path) -> None:
    for path, part in [
        ("none.yaml", "lrem-os init none.yaml"),
        (".", "is a directory"),
        ("my.yaml/x", "cannot be read"),
    ]:
        Path("my.yaml").touch()
        with pytest.raises(ConfigError) as caught:
            load_settings(path)
        assert part in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    "wrong", ["user: me\n  token: {}", "password: {}", "user: me\n  password: [{}]", "hosts: ['me:{}@h']"]
)
def test_no_complaint_shows_a_secret(wrong: str) -> None:
    assert SECRET not in refusal(f"search:\n  {wrong.format(SECRET)}\n  mode: fuzzy\n")


def test_nothing_printed_shows_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LREM_OS__SEARCH__PASSWORD", SECRET)
    loaded = load_settings(overrides=["search.user=me", f"search.hosts=https://me:{SECRET}@host:9200"])
    shown = loaded.shown()
    assert shown["search.password"] == MASK
    assert shown["search.token"] is None
    assert shown["search.hosts"] == [f"https://{MASK}@host:9200"]
    assert SECRET not in repr(shown)
    assert SECRET not in str(loaded.sources)


def test_the_hash_follows_the_values_and_not_the_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    def loaded(*overrides: str) -> LoadedSettings:
        return load_settings(overrides=overrides)

    assert loaded().settings_hash == loaded("search.mode=hybrid").settings_hash
    assert loaded().settings_hash != loaded("search.mode=bm25").settings_hash
    one = loaded("search.user=u", "search.password=a").settings_hash
    assert one == loaded("search.user=u", "search.password=b").settings_hash
    assert len(one) == 16


def test_the_template_holds_exactly_the_defaults() -> None:
    write_template(Path("lrem-os.yaml"))
    loaded = load_settings()
    assert loaded.settings == Settings()
    left_out = [key for key, source in loaded.sources.items() if source == "default"]
    secrets = ["model.api_key", "reasoning.api_key", "search.password", "search.token"]
    secrets += ["serve.api_keys", "serve.ubi_hash_key", "connect.api_key", "dashboards.password"]
    assert left_out == secrets  # nobody should be led to write these into a file
    for key in keys_of(Settings):
        assert f" {allowed_values(field_of(Settings, key)).split()[-1]}" in template()


def test_the_template_overwrites_only_by_force() -> None:
    path = Path("lrem-os.yaml")
    path.write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        write_template(path)
    assert path.read_text() == "mine"
    write_template(path, force=True)
    assert path.read_text() == template()
    with pytest.raises(ConfigError, match="cannot be written"):
        write_template(Path("none/lrem-os.yaml"))


def test_every_key_has_a_description_and_a_variable() -> None:
    assert [key for key in keys_of(Settings) if not (field_of(Settings, key).description or "").endswith(".")] == []
    assert len({env_name(key) for key in keys_of(Settings)}) == len(keys_of(Settings))


def test_the_cache_folder_moves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LREM_OS_HOME", str(tmp_path / "home"))
    assert cache_dir() == tmp_path / "home"
    monkeypatch.setenv("LREM_OS_HOME", "")
    assert cache_dir().name == "lrem-os"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.text(alphabet="abc: -[]{}&*!|>%@`\"'\n\t,#?", max_size=60).map(str.encode))
def test_no_file_content_ends_in_a_foreign_error(content: bytes) -> None:
    path = Path("any.yaml")
    path.write_bytes(content)
    with contextlib.suppress(ConfigError):
        load_settings(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(
    st.sampled_from(["model.query_prefix", "search.weights", "node.port", "catalog.text", "search.hosts"]), st.text()
)
def test_no_override_ends_in_a_foreign_error(key: str, text: str) -> None:
    with contextlib.suppress(ConfigError):
        load_settings(overrides=[f"{key}={text}"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "index": st.fixed_dictionaries({"m": st.integers(2, 512), "on_disk": st.just(False)}),
            "search": st.fixed_dictionaries(
                {"timeout_s": st.floats(1e-3, 1e6), "hosts": st.lists(st.just("http://h:1"), max_size=3)}
            ),
            "model": st.fixed_dictionaries({"query_prefix": st.text(st.characters(codec="utf-8"), max_size=20)}),
        }
    )
)
def test_what_is_written_is_what_is_read(tree: dict[str, dict[str, Any]]) -> None:
    Path("any.yaml").write_text(yaml.safe_dump(tree), encoding="utf-8")
    assert load_settings("any.yaml").settings == Settings.model_validate(tree)


def test_a_secret_may_stand_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    secret = tmp_path / "password"
    secret.write_text("00123: #\n")
    monkeypatch.setenv("LREM_OS__SEARCH__USER", "shop")
    monkeypatch.setenv("LREM_OS__SEARCH__PASSWORD_FILE", str(secret))
    monkeypatch.setenv("LREM_OS__SEARCH__CA_FILE", "ca.pem")  # a key of its own, not a file with one
    loaded = load_settings()
    assert loaded.settings.search.password is not None
    assert loaded.settings.search.password.get_secret_value() == "00123: #"
    assert loaded.sources["search.password"] == "env LREM_OS__SEARCH__PASSWORD_FILE"
    assert loaded.settings.search.ca_file == Path("ca.pem")
    monkeypatch.setenv("LREM_OS__SEARCH__PASSWORD", "given")
    loaded = load_settings()
    assert loaded.settings.search.password is not None
    assert loaded.settings.search.password.get_secret_value() == "given"  # said more directly


def test_a_secret_s_file_that_says_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LREM_OS__SEARCH__PASSWORD_FILE", str(tmp_path / "absent"))
    with pytest.raises(
        ConfigError, match=r"LREM_OS__SEARCH__PASSWORD_FILE names .*absent, which cannot be read: No such"
    ):
        load_settings()
    (tmp_path / "empty").write_text("\n")
    monkeypatch.setenv("LREM_OS__SEARCH__PASSWORD_FILE", str(tmp_path / "empty"))
    with pytest.raises(ConfigError, match="which is empty"):
        load_settings()
    monkeypatch.delenv("LREM_OS__SEARCH__PASSWORD_FILE")
    monkeypatch.setenv("LREM_OS__SEARCH__HOSTS_FILE", "x")  # no secret: no such variable
    with pytest.raises(ConfigError, match="LREM_OS__SEARCH__HOSTS_FILE, which is no configuration key"):
        load_settings()
