"""
Certificates: DER in, what matters out.

Rule of this file: pure, and nothing a server sends raises: what cannot be read is left out.

Source: RFC 5280 through `cryptography`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

from baoha_cli.diagnose.evidence import Certificate
from baoha_cli.text import one_line

_RSA_BITS_MIN: Final = 2048
_EC_BITS_MIN: Final = 224
_WEAK_HASHES: Final = frozenset({"md5", "sha1"})


def read_certificate(der: bytes) -> Certificate | None:
    """Return what matters about a certificate, or None when it cannot be read."""
    try:
        found = x509.load_der_x509_certificate(der)
        return Certificate(
            subject=one_line(found.subject.rfc4514_string()),
            issuer=one_line(found.issuer.rfc4514_string()),
            names=_names(found),
            not_before=_seconds(found.not_valid_before_utc),
            not_after=_seconds(found.not_valid_after_utc),
            weakness=_weakness(found),
            fingerprint=found.fingerprint(hashes.SHA256()).hex(),
        )
    except (ValueError, TypeError, OverflowError, x509.InvalidVersion):
        return None


def read_pem(data: bytes) -> list[Certificate]:
    """Return the certificates of a PEM file, those that can be read."""
    try:
        loaded = x509.load_pem_x509_certificates(data)
    except ValueError:
        return []
    from cryptography.hazmat.primitives.serialization import Encoding

    read = [read_certificate(one.public_bytes(Encoding.DER)) for one in loaded]
    return [one for one in read if one is not None]


def _seconds(moment: datetime) -> float:
    return moment.timestamp()


def _names(found: x509.Certificate) -> tuple[str, ...]:
    try:
        extension = found.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return tuple(
            one_line(str(attribute.value))
            for attribute in found.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
        )
    names = [one_line(name) for name in extension.value.get_values_for_type(x509.DNSName)]
    names += [str(ip) for ip in extension.value.get_values_for_type(x509.IPAddress)]
    return tuple(names)


def _weakness(found: x509.Certificate) -> str:
    key = found.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _RSA_BITS_MIN:
        return f"RSA key of {key.key_size} bits"
    if isinstance(key, dsa.DSAPublicKey):
        return "DSA key"
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.key_size < _EC_BITS_MIN:
        return f"ECDSA key of {key.curve.key_size} bits"
    algorithm = found.signature_hash_algorithm
    is_root = found.issuer == found.subject  # nobody checks the hash of a root
    if algorithm is not None and algorithm.name in _WEAK_HASHES and not is_root:
        return f"signature with {algorithm.name.upper()}"
    return ""
