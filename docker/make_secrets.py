#!/usr/bin/env python3
"""Makes what the secure profile needs: passwords, keys and certificates, a folder for each container that needs some.

``lrem-os-secrets [FOLDER]`` writes what is not there, and makes certificates anew that end within 30 days; passwords
stay. ``--show`` prints the passwords that people need. The folder ``operator`` is mounted nowhere else: it holds the
authority's key and all passwords.
"""

from __future__ import annotations

import argparse
import datetime
import ipaddress
import json
import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from string import Template

import bcrypt
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lrem_os.config import load_settings

TEMPLATES = Path(sys.prefix) / "share" / "lrem-os"
USERS = {  # account → its backend role, which security/roles_mapping.yml turns into roles
    "admin": "admin",
    "dashboards": "dashboards",
    "lrem-os": "lrem-os",
    "lrem-os-ingest": "lrem-os-ingest",
}
KEYS = ("shop", "metrics")
_CA_DAYS, _LEAF_DAYS, _RENEW_DAYS = 3650, 397, 30
_PRIVATE, _PUBLIC = 0o600, 0o644


@dataclass(frozen=True, slots=True)
class Leaf:
    """A certificate: who it is for, the names it is reached by, and the folder that gets it."""

    common_name: str
    folder: str
    file: str
    hosts: tuple[str, ...] = ()


LEAVES = (
    Leaf("opensearch", "opensearch", "node", ("opensearch", "localhost", "127.0.0.1", "::1")),
    Leaf("lrem-os-admin", "operator", "admin"),
    Leaf("dashboards", "dashboards", "dashboards", ("dashboards", "localhost", "127.0.0.1", "::1")),
    Leaf("lrem-os", "service", "service", ("lrem-os", "localhost", "127.0.0.1", "::1")),
)


def write(path: Path, data: bytes | str, mode: int = _PRIVATE) -> None:
    """Write a file whole, readable by its owner alone unless ``mode`` says more."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data.encode() if isinstance(data, str) else data)
    new.replace(path)


def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a key as PKCS #8, which OpenSearch, Dashboards and Python all read."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def sign(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    signer: ec.EllipticCurvePrivateKey,
    days: int,
    hosts: tuple[str, ...] = (),
) -> x509.Certificate:
    """Return a certificate; without an issuer, an authority's own."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=5)  # clocks differ
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer is not None else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=0 if issuer is None else None), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False)
        .add_extension(_usage(is_authority=issuer is None), True)
    )
    if issuer is not None:
        both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = builder.add_extension(both, False)
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_name_of(host) for host in hosts]), False)
    return builder.sign(signer, hashes.SHA256())


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not is_authority, key_cert_sign=is_authority, crl_sign=is_authority,
        content_commitment=False, key_encipherment=False, data_encipherment=False, key_agreement=False,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _name_of(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def make_certificates(folder: Path) -> list[str]:
    """Write the authority and the certificates that are missing or end soon; return the names of the new ones."""
    made = []
    ca_file, ca_key_file = folder / "operator" / "ca.pem", folder / "operator" / "ca-key.pem"
    if not ca_key_file.exists() or not ca_file.exists():
        ca_key = ec.generate_private_key(ec.SECP256R1())
        ca = sign("lrem-os authority", ca_key, None, ca_key, _CA_DAYS)
        write(ca_key_file, pem(ca_key))
        write(ca_file, ca.public_bytes(serialization.Encoding.PEM), _PUBLIC)
        made.append("authority")
    ca = x509.load_pem_x509_certificate(ca_file.read_bytes())
    loaded = serialization.load_pem_private_key(ca_key_file.read_bytes(), None)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        sys.exit(f"error: {ca_key_file} is another kind of key\n  → delete the volumes of the secrets, and start again")
    for leaf in LEAVES:
        path = folder / leaf.folder / f"{leaf.file}.pem"
        if "authority" not in made and path.exists() and not _ends_soon(path):
            continue
        key = ec.generate_private_key(ec.SECP256R1())
        write(folder / leaf.folder / f"{leaf.file}-key.pem", pem(key))
        certificate = sign(leaf.common_name, key, ca, loaded, _LEAF_DAYS, leaf.hosts)
        write(path, certificate.public_bytes(serialization.Encoding.PEM), _PUBLIC)
        made.append(leaf.common_name)
    for reader in ("opensearch", "dashboards", "service", "ingest", "prometheus"):
        write(folder / reader / "ca.pem", ca_file.read_bytes(), _PUBLIC)
    return made


def _ends_soon(path: Path) -> bool:
    end = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    return end - datetime.datetime.now(datetime.UTC) < datetime.timedelta(days=_RENEW_DAYS)


def read_passwords(folder: Path) -> dict[str, str]:
    """Return the passwords of all accounts, and the service's keys; made and kept at the first call."""
    path = folder / "operator" / "passwords.json"
    known: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    names = [*USERS, *(f"key:{name}" for name in KEYS), "cookie"]
    passwords = {name: known.get(name) or secrets.token_urlsafe(32) for name in names}
    if passwords != known:
        write(path, json.dumps(passwords, indent=2) + "\n")
    return passwords


def write_settings(folder: Path, passwords: dict[str, str], index: str) -> None:
    """Write what the containers read, from templates and passwords; the accounts only once: later the API has them."""
    values = {"INDEX": index, "DASHBOARDS_PASSWORD": passwords["dashboards"], "COOKIE_PASSWORD": passwords["cookie"]}
    for template in sorted((TEMPLATES / "security").glob("*.yml")):
        write(folder / "opensearch" / template.name, Template(template.read_text()).substitute(values))
    accounts = folder / "opensearch" / "internal_users.yml"
    if not accounts.exists():
        users = {
            name: {
                "hash": bcrypt.hashpw(passwords[name].encode(), bcrypt.gensalt(12)).decode(),
                "reserved": name != "admin",
                "backend_roles": [role],
            }
            for name, role in USERS.items()
        }
        write(accounts, yaml.safe_dump({"_meta": {"type": "internalusers", "config_version": 2}, **users}))
    dashboards = (TEMPLATES / "dashboards" / "opensearch_dashboards.yml").read_text()
    write(folder / "dashboards" / "opensearch_dashboards.yml", Template(dashboards).substitute(values))
    write(folder / "service" / "password", passwords["lrem-os"])
    write(folder / "service" / "api-keys", ",".join(passwords[f"key:{name}"] for name in KEYS))
    write(folder / "ingest" / "password", passwords["lrem-os-ingest"])
    write(folder / "prometheus" / "api-key", passwords["key:metrics"], _PUBLIC)  # Prometheus is another user


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="lrem-os-secrets", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("/secrets"), metavar="FOLDER")
    parser.add_argument("--show", action="store_true", help="print what people need to sign in")
    options = parser.parse_args()
    if options.show and not (options.folder / "operator" / "passwords.json").exists():
        print(f"error: {options.folder} holds no passwords yet\n  → run it without --show first", file=sys.stderr)
        return 1
    passwords = read_passwords(options.folder)
    if options.show:
        print(f"admin of OpenSearch and Dashboards: {passwords['admin']}")
        print(f"key of the service (x-lrem-api-key): {passwords['key:shop']}")
        print((options.folder / "operator" / "ca.pem").read_text(), end="")
        return 0
    made = make_certificates(options.folder)
    write_settings(options.folder, passwords, load_settings().settings.index.name)
    print(f"new certificates: {', '.join(made)}" if made else "all is there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
