"""The scripts that the containers run, run here: health check, secrets, models."""

from __future__ import annotations

import json
import socket
import ssl
import stat
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import bcrypt
import pytest
import yaml
from cryptography import x509

from tests.docker.conftest import Image
from tests.fakes.scripts import load_script


@contextmanager
def service(status: int, tls: Path | None = None) -> Iterator[int]:
    """Yield the port of a server that answers ``/live`` so, and everything else with 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/live" else 404)
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls / "service.pem", tls / "service-key.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def check_health(image: Image, port: int, **environ: str) -> subprocess.CompletedProcess[str]:
    # 0.0.0.0 is what the image listens on
    return image.run("lrem-os-healthcheck", LREM_OS__SERVE__PORT=str(port), LREM_OS__SERVE__HOST="0.0.0.0", **environ)


def test_the_health_check_says_what_live_says(image: Image) -> None:
    with service(200) as port:
        assert check_health(image, port).returncode == 0
    with service(503) as port:
        done = check_health(image, port)
    assert (done.returncode, done.stdout) == (1, "unhealthy: /live answers 503\n")


def test_the_health_check_fails_where_nothing_listens_or_the_configuration_is_wrong(image: Image) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert "no answer at port" in check_health(image, port).stdout
    done = check_health(image, port, LREM_OS__SERVE__PROT="1")
    assert done.returncode == 1
    assert "LREM_OS__SERVE__PROT" in done.stdout
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def secrets(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secrets")
    done = image.run("lrem-os-secrets", folder, LREM_OS__INDEX__NAME="shop")
    assert done.returncode == 0, done.stderr
    return folder


def test_the_health_check_goes_over_tls(image: Image, secrets: Path) -> None:
    tls = secrets / "service"
    with service(200, tls) as port:
        done = check_health(
            image,
            port,
            LREM_OS__SERVE__CERT_FILE=str(tls / "service.pem"),
            LREM_OS__SERVE__KEY_FILE=str(tls / "service-key.pem"),
        )
        assert done.returncode == 0, done.stdout
        assert check_health(image, port).returncode == 1  # without TLS


def handshake(folder: Path, file: str, host: str, ca: Path) -> str:
    """Return the version of TLS that server and client agree on. Raises ``ssl.SSLError``."""
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(folder / f"{file}.pem", folder / f"{file}-key.pem")
    client_side = ssl.create_default_context(cafile=str(ca))
    left, right = socket.socketpair()
    failed: list[Exception] = []

    def serve() -> None:
        try:
            server_side.wrap_socket(left, server_side=True).close()
        except OSError as exc:
            failed.append(exc)
            left.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client_side.wrap_socket(right, server_hostname=host) as client:
            return str(client.version())
    finally:
        right.close()
        thread.join()


def test_servers_are_trusted_by_their_names_and_by_no_other(secrets: Path, tmp_path: Path, image: Image) -> None:
    servers = {
        "opensearch": ("node", "opensearch"),
        "dashboards": ("dashboards", "dashboards"),
        "service": ("service", "lrem-os"),
    }
    for folder, (file, name) in servers.items():
        for host in (name, "localhost", "127.0.0.1"):
            assert handshake(secrets / folder, file, host, secrets / "ingest" / "ca.pem") == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(secrets / "opensearch", "node", "elsewhere", secrets / "ingest" / "ca.pem")
    assert image.run("lrem-os-secrets", tmp_path).returncode == 0
    with pytest.raises(ssl.SSLCertVerificationError):  # another authority
        handshake(secrets / "opensearch", "node", "opensearch", tmp_path / "ingest" / "ca.pem")


def test_every_account_has_its_own_password_and_the_cluster_only_hashes(secrets: Path) -> None:
    passwords = json.loads((secrets / "operator" / "passwords.json").read_text())
    assert len(set(passwords.values())) == len(passwords) == 7
    assert min(map(len, passwords.values())) >= 40
    accounts = yaml.safe_load((secrets / "opensearch" / "internal_users.yml").read_text())
    names = set(accounts) - {"_meta"}
    assert names == {"admin", "dashboards", "lrem-os", "lrem-os-ingest"}
    for name in names:
        assert bcrypt.checkpw(passwords[name].encode(), accounts[name]["hash"].encode())
    for path in (secrets / "opensearch").iterdir():
        assert not any(password in path.read_text() for password in passwords.values()), path
    assert (secrets / "service" / "password").read_text() == passwords["lrem-os"]
    assert (secrets / "ingest" / "password").read_text() == passwords["lrem-os-ingest"]
    keys = (secrets / "service" / "api-keys").read_text().split(",")
    assert (secrets / "prometheus" / "api-key").read_text() == passwords["key:metrics"]
    assert keys == [passwords["key:shop"], passwords["key:metrics"]]


def test_templates_are_filled_in(secrets: Path) -> None:
    roles = yaml.safe_load((secrets / "opensearch" / "roles.yml").read_text())
    assert roles["lrem_os_ingest"]["index_permissions"][0]["index_patterns"][:2] == ["shop", "shop-v*"]
    dashboards = yaml.safe_load((secrets / "dashboards" / "opensearch_dashboards.yml").read_text())
    passwords = json.loads((secrets / "operator" / "passwords.json").read_text())
    assert dashboards["opensearch.password"] == passwords["dashboards"]
    assert len(dashboards["opensearch_security.cookie.password"]) >= 32


def test_private_files_are_their_owners_alone(secrets: Path) -> None:
    public = {"ca.pem", "admin.pem", "node.pem", "dashboards.pem", "service.pem", "api-key"}
    for path in secrets.rglob("*"):
        if path.is_file():
            mode = stat.S_IMODE(path.stat().st_mode)
            assert mode == (0o644 if path.name in public else 0o600), path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_second_run_changes_nothing(image: Image, secrets: Path) -> None:
    before = contents(secrets)
    assert image.run("lrem-os-secrets", secrets, LREM_OS__INDEX__NAME="shop").stdout == "all is there\n"
    assert contents(secrets) == before


def test_a_certificate_that_ends_soon_is_made_anew_and_passwords_stay(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = load_script("docker/make_secrets.py")
    monkeypatch.setattr(module, "_LEAF_DAYS", 29)
    module.read_passwords(tmp_path)
    module.make_certificates(tmp_path)
    before = contents(tmp_path)
    done = image.run("lrem-os-secrets", tmp_path)
    assert "new certificates: opensearch, lrem-os-admin, dashboards, lrem-os\n" in done.stdout, done.stderr
    after = contents(tmp_path)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {
        *("opensearch/node.pem", "opensearch/node-key.pem", "operator/admin.pem", "operator/admin-key.pem"),
        *(
            "dashboards/dashboards.pem",
            "dashboards/dashboards-key.pem",
            "service/service.pem",
            "service/service-key.pem",
        ),
    }
    ends = x509.load_pem_x509_certificate(after["service/service.pem"]).not_valid_after_utc
    assert ends > x509.load_pem_x509_certificate(before["service/service.pem"]).not_valid_after_utc


def test_people_are_told_what_they_need_and_not_before_it_is_there(image: Image, secrets: Path, tmp_path: Path) -> None:
    done = image.run("lrem-os-secrets", tmp_path, "--show")
    assert (done.returncode, list(tmp_path.iterdir())) == (1, [])
    passwords = json.loads((secrets / "operator" / "passwords.json").read_text())
    told = image.run("lrem-os-secrets", secrets, "--show").stdout
    assert passwords["admin"] in told
    assert passwords["key:shop"] in told
    assert passwords["dashboards"] not in told
    assert "BEGIN CERTIFICATE" in told
    assert "PRIVATE" not in told


def write_model(folder: Path) -> Path:
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def test_a_reasoner_is_laid_out_for_a_server(image: Image, tmp_path: Path) -> None:
    model, out = write_model(tmp_path / "model"), tmp_path / "vllm"
    for weights in (b"weights", b"newer weights"):
        (model / "model.safetensors").write_bytes(weights)
        done = image.run("lrem-os-pull", model, "--vllm", out, "--vllm-model", model, LREM_OS_HOME=str(tmp_path))
        assert done.returncode == 0, done.stderr
        assert (out / "base" / "model.safetensors").read_bytes() == weights
        assert [path.name for path in out.iterdir()] == ["base"]


def test_a_model_that_is_not_there_is_an_error_in_a_sentence(image: Image, tmp_path: Path) -> None:
    done = image.run("lrem-os-pull", tmp_path / "absent", LREM_OS_HOME=str(tmp_path))
    assert done.returncode == 4, done.stderr
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_only_models_that_run_in_the_container_are_fetched(image: Image, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    done = image.run(
        "lrem-os-pull",
        LREM_OS_HOME=str(tmp_path),
        LREM_OS__MODEL__NAME=str(model),
        LREM_OS__REASONING__NAME="a-name-on-the-server",
        LREM_OS__REASONING__BACKEND="openai",
        LREM_OS__REASONING__URL="http://vllm:8000/v1",
    )
    assert (done.returncode, done.stdout) == (0, f"{model.name} is in {model}\n"), done.stderr


def test_without_extras_there_is_no_torch_and_the_commands_say_what_to_install(image: Image, tmp_path: Path) -> None:
    assert image.run("python", "-c", "import torch").returncode == 1
    assert "Usage: lrem-os" in image.run("lrem-os", "--help").stdout
    shown = json.loads(image.run("lrem-os", "config", "show", "--json").stdout)
    assert shown["keys"]["index.name"]["value"] == "products"
    model = str(write_model(tmp_path / "model"))
    local = {"LREM_OS__MODEL__NAME": "fake:8", "LREM_OS__REASONING__NAME": model}
    remote = {"LREM_OS__REASONING__BACKEND": "openai", "LREM_OS__REASONING__URL": "http://127.0.0.1:9/v1"}
    for environ, extra in ((local, "model"), ({**local, **remote}, "remote")):
        done = image.run("lrem-os", "reason", "x", **environ)
        assert done.returncode == 5, done.stderr
        assert f"pip install 'lrem-os[{extra}]'" in done.stderr
        assert "Traceback" not in done.stderr
