"""A small certificate authority, kept in the database (its key encrypted), and a short leaf for each controller.

Agents pin the authority; people give its file to the command line (`RUNNER_CA`), or name files of their own.
"""

from __future__ import annotations

import asyncio
import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from provisioner.domain.store import Records

from .kept import AUTHORITY, kept

_CA_YEARS, _LEAF_DAYS = 10, 30
_PEM = serialization.Encoding.PEM


async def leaf(records: Records, secret_key: bytes, folder: Path, names: list[str]) -> tuple[Path, Path, Path]:
    """Files with a fresh certificate for `names`, its key (0600), and the authority's certificate."""
    ca_cert, ca_key = await _authority(records, secret_key)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(_name(names[0]))
        .issuer_name(ca_cert.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=_LEAF_DAYS))
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    return await asyncio.to_thread(_write, folder, (cert.public_bytes(_PEM), _private(key), ca_cert.public_bytes(_PEM)))


async def authority(records: Records, secret_key: bytes) -> str:
    """The authority's certificate, as PEM."""
    cert, _ = await _authority(records, secret_key)
    return cert.public_bytes(_PEM).decode()


def _write(folder: Path, files: tuple[bytes, bytes, bytes]) -> tuple[Path, Path, Path]:
    folder.mkdir(exist_ok=True, mode=0o700)
    paths = folder / "controller.pem", folder / "controller.key", folder / "ca.pem"
    for path, data in zip(paths, files, strict=True):
        path.touch(mode=0o600)
        path.write_bytes(data)
    return paths


async def _authority(records: Records, secret_key: bytes) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    pem = await kept(records, secret_key, AUTHORITY, _new_authority)
    key = serialization.load_pem_private_key(pem, password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return x509.load_pem_x509_certificate(pem), key


def _new_authority() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(_name("gpu-runner controllers"))
        .issuer_name(_name("gpu-runner controllers"))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=365 * _CA_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return cert.public_bytes(_PEM) + _private(key)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
