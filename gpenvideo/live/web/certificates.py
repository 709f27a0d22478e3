"""Certificates: one made on the spot, since browsers give no camera to a page that came without TLS."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import ssl
import tempfile
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from gpenvideo.errors import FileMissing, OptionError

if TYPE_CHECKING:
    from cryptography.x509 import GeneralName

__all__ = ["SelfMade", "self_made", "tls_context"]

VALID = datetime.timedelta(days=30)


class SelfMade:
    """A certificate and its key, in memory.

    Args:
        certificate, key: PEM.
    """

    def __init__(self, certificate: bytes, key: bytes) -> None:
        self.certificate, self._key = certificate, key

    def __repr__(self) -> str:
        return f"SelfMade({self.fingerprint})"

    @property
    def fingerprint(self) -> str:
        """SHA-256 as browsers show it: it tells this certificate from one of somebody in between."""
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.certificate.decode())).hexdigest().upper()
        return ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))

    def context(self) -> ssl.SSLContext:
        """For a server; the files that OpenSSL wants are gone when this returns."""
        with tempfile.TemporaryDirectory(prefix="gpenvideo-tls-") as folder:
            certificate, key = Path(folder, "certificate.pem"), Path(folder, "key.pem")
            certificate.write_bytes(self.certificate)
            key.touch(mode=0o600)
            key.write_bytes(self._key)
            return tls_context(certificate, key)


def self_made(names: Iterable[str]) -> SelfMade:
    """A certificate for some host names and addresses, signed by itself, good for 30 days.

    Browsers warn of it once; whoever goes on compares the fingerprint.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "gpenvideo live")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))  # clocks differ
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectAlternativeName([_general(name) for name in dict.fromkeys(names)]), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        .sign(key, hashes.SHA256())
    )
    return SelfMade(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )


def tls_context(certificate: str | PathLike[str], key: str | PathLike[str]) -> ssl.SSLContext:
    """For a server, from PEM files: TLS 1.2 or later.

    Raises:
        FileMissing: one of them is not there.
        OptionError: what they hold is no certificate with its key.
    """
    for file in (certificate, key):
        if not Path(file).is_file():
            raise FileMissing("there is no such certificate or key", path=file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError) as error:
        reason = "the key does not belong to the certificate, or one of them is no PEM file"
        raise OptionError(reason, path=certificate) from error
    return context


def _general(name: str) -> GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
