"""
The key and certificate of one tenure: the whole trust of the cluster channel.

Rules of this file: a key never leaves through a representation, a log or a file, and a certificate
is never trusted without the key that the advertisement gives beside it.

Every tenure has a new ECDSA P-521 key and a self-signed certificate. They travel to the standbys
inside the advertisement, which the barrier encrypts: who can read it holds the unseal key. Both
sides of a connection use the same pair and compare the peer's certificate byte by byte (``tls``).

Validity: 10 years instead of OpenBao's 30. A certificate is worth nothing after its tenure, and no
process runs that long; ``tls`` does not look at the dates at all, because a standby whose clock is
a minute off must still be able to forward.

Source: docs/spec/openbao-ha.md section 3.2; docs/decisions/010-one-key-per-tenure.md.
"""

from __future__ import annotations

import secrets
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from baoha.errors import ForwardingError
from baoha.sansio.advertisement import Advertisement, KeyParams, check_key_material

_BACKDATED: Final = timedelta(seconds=30)
_VALID: Final = timedelta(days=3_650)
_SERIAL_BITS: Final = 63


@dataclass(frozen=True, slots=True, kw_only=True)
class TenureIdentity:
    """
    Key and certificate of one tenure.

    ``name`` is the certificate's common name, ``fw-<uuid>``. It is unique for each tenure: with two
    certificates of one name OpenSSL tries the wrong one.
    """

    name: str
    certificate_der: bytes = field(repr=False)
    private_key: ec.EllipticCurvePrivateKey = field(repr=False)

    def to_key_params(self) -> KeyParams:
        """Return the key as the numbers that go into the advertisement."""
        numbers = self.private_key.private_numbers()
        return KeyParams(
            x=numbers.public_numbers.x, y=numbers.public_numbers.y, d=numbers.private_value
        )

    def certificate_pem(self) -> bytes:
        """Return the certificate as PEM."""
        return x509.load_der_x509_certificate(self.certificate_der).public_bytes(Encoding.PEM)

    def private_key_pem(self) -> bytes:
        """Return the private key as unencrypted PEM. Only ``tls`` has a use for it."""
        return self.private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def create_tenure_identity(now: datetime) -> TenureIdentity:
    """
    Make a new key and its self-signed certificate.

    Args:
        now: an aware time; the certificate is valid from 30 s before it.
    """
    key = ec.generate_private_key(ec.SECP521R1())
    name = f"fw-{uuid.uuid4()}"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(secrets.randbits(_SERIAL_BITS) | 1)
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + _VALID)
        .add_extension(_key_usage(), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage(
                [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA512())
    )
    return TenureIdentity(
        name=name, certificate_der=certificate.public_bytes(Encoding.DER), private_key=key
    )


def identity_from_advertisement(advertisement: Advertisement) -> TenureIdentity:
    """
    Return the identity that an active node advertises.

    Raises:
        ForwardingError: key or certificate are missing, unreadable or do not belong together.
            Nothing was sent.
    """
    params = check_key_material(advertisement)
    numbers = ec.EllipticCurvePrivateNumbers(
        params.d, ec.EllipticCurvePublicNumbers(params.x, params.y, ec.SECP521R1())
    )
    try:
        key = numbers.private_key()
    except ValueError as exc:
        raise ForwardingError("failed to parse local cluster key") from exc
    try:
        certificate = x509.load_der_x509_certificate(advertisement.cluster_cert)
        public_key = certificate.public_key()
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except ValueError as exc:
        raise ForwardingError("failed to parse local cluster certificate") from exc
    if not names or public_key != key.public_key():
        raise ForwardingError("local cluster certificate does not belong to the cluster key")
    return TenureIdentity(
        name=str(names[0].value),
        certificate_der=certificate.public_bytes(Encoding.DER),
        private_key=key,
    )


def _key_usage() -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=True,
        data_encipherment=False,
        key_agreement=True,
        key_cert_sign=True,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
