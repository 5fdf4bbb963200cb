"""The tenure's key and certificate: shape, round trip through the advertisement, no trace left."""

from __future__ import annotations

import os
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
import trio.testing
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from baoha.cluster.certificates import (
    TenureIdentity,
    create_tenure_identity,
    identity_from_advertisement,
)
from baoha.cluster.tls import (
    TLSRefused,
    accept_tls,
    client_context,
    connect_tls,
    describe_failure,
    server_context,
)
from baoha.errors import ForwardingError
from baoha.sansio.advertisement import KeyParams, decode_advertisement, encode_advertisement
from tests.support.channel import IDENTITY, advertise

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_certificate_has_the_documented_shape() -> None:
    """Source: docs/spec/openbao-ha.md section 3.2."""
    identity = create_tenure_identity(NOW)
    certificate = x509.load_der_x509_certificate(identity.certificate_der)
    (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert certificate.subject == certificate.issuer
    assert name.value == identity.name
    assert identity.name.startswith("fw-")
    assert isinstance(certificate.signature_hash_algorithm, hashes.SHA512)
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP521R1)
    assert 0 < certificate.serial_number < 2**63
    assert certificate.not_valid_before_utc == NOW - timedelta(seconds=30)
    assert certificate.not_valid_after_utc > NOW + timedelta(days=3_000)
    extensions = certificate.extensions
    names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [identity.name]
    basic = extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical
    assert basic.value.ca
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert usage.value.key_encipherment
    assert usage.value.key_agreement
    assert usage.value.key_cert_sign
    assert not usage.value.crl_sign
    extended = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(extended) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    extensions.get_extension_for_class(x509.SubjectKeyIdentifier)


def test_every_tenure_has_a_name_and_a_key_of_its_own() -> None:
    one, other = create_tenure_identity(NOW), create_tenure_identity(NOW)
    assert one.name != other.name
    assert one.to_key_params() != other.to_key_params()


def test_identity_survives_the_advertisement() -> None:
    stored = encode_advertisement(advertise())
    identity = identity_from_advertisement(decode_advertisement(stored))
    assert identity.name == IDENTITY.name
    assert identity.certificate_der == IDENTITY.certificate_der
    assert identity.to_key_params() == IDENTITY.to_key_params()


def test_key_that_does_not_fit_is_refused() -> None:
    other = create_tenure_identity(NOW)
    with pytest.raises(ForwardingError, match="does not belong"):
        identity_from_advertisement(replace(advertise(), key=other.to_key_params()))
    params = IDENTITY.to_key_params()
    for wrong in (replace(params, d=params.d + 1), replace(params, x=1), KeyParams(x=1, y=2, d=3)):
        with pytest.raises(ForwardingError, match="failed to parse local cluster key"):
            identity_from_advertisement(replace(advertise(), key=wrong))


def test_no_key_in_any_representation() -> None:
    number = str(IDENTITY.to_key_params().d)
    assert number not in repr(IDENTITY)
    assert number not in repr(IDENTITY.to_key_params())
    assert "private_key" not in repr(IDENTITY)


def open_files() -> set[str]:
    return {os.readlink(entry) for entry in Path("/proc/self/fd").iterdir() if entry.is_symlink()}


def test_contexts_leave_no_file_and_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    server_context(IDENTITY)
    assert not any("baoha-tenure" in name for name in open_files())
    assert list(tmp_path.iterdir()) == []


def test_contexts_without_memory_files_leave_nothing_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other systems than Linux: a file that only this user can read, removed at once."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delattr(os, "memfd_create")
    modes: list[int] = []
    unlink = Path.unlink

    def recording_unlink(self: Path) -> None:
        modes.append(self.stat().st_mode & 0o777)
        unlink(self)

    monkeypatch.setattr(Path, "unlink", recording_unlink)
    context = client_context(IDENTITY)
    assert modes == [0o600]
    assert list(tmp_path.iterdir()) == []
    assert context.verify_mode is ssl.CERT_REQUIRED


async def shake_hands(server: TenureIdentity, client: TenureIdentity) -> tuple[str, str]:
    """Connect two identities in memory; returns what each end says of it."""
    near, far = trio.testing.memory_stream_pair()
    said: dict[str, str] = {}

    async def one_end(name: str) -> None:
        try:
            if name == "server":
                await accept_tls(far, server_context(server), server)
            else:
                await connect_tls(near, client_context(client), client)
            said[name] = "good"
        except TLSRefused as exc:
            said[name] = str(exc)
        if said[name] != "good":
            await trio.aclose_forcefully(far if name == "server" else near)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one_end, "server")
        nursery.start_soon(one_end, "client")
    return said["server"], said["client"]


async def test_both_ends_of_one_tenure_agree() -> None:
    assert await shake_hands(IDENTITY, IDENTITY) == ("good", "good")


async def test_ends_of_two_tenures_do_not() -> None:
    server, client = await shake_hands(create_tenure_identity(NOW), create_tenure_identity(NOW))
    assert client == "certificate is not the advertised one"
    assert server != "good"


@pytest.mark.parametrize("years_off", [-20, -1, 1, 40])
async def test_clocks_that_are_off_do_not_matter(years_off: int) -> None:
    """The certificate is pinned; a standby with a wrong clock must still be able to forward."""
    identity = create_tenure_identity(datetime.now(UTC) + timedelta(days=365 * years_off))
    assert await shake_hands(identity, identity) == ("good", "good")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (None, "connection lost"),
        (ConnectionResetError(104, "Connection reset by peer"), "connection reset by peer"),
        (ssl.SSLCertVerificationError("x"), "certificate is not the advertised one"),
        (RuntimeError("who knows"), "connection lost"),
    ],
)
def test_failure_is_described(error: BaseException | None, text: str) -> None:
    broken = trio.BrokenResourceError()
    broken.__cause__ = error
    assert describe_failure(broken) == text
