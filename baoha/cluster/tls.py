"""
Mutual TLS for the cluster channel.

Rules of this file: a connection is good only when both sides hold the tenure's own certificate and
speak ``baoha-cluster/1``, and a context is made anew for every tenure and never changed after.

What Python's ``ssl`` leaves open is closed by hand here:

- a peer with another ALPN is *not* refused by the handshake, so the result is compared;
- the trust store holds one certificate, and beyond that the peer's DER is compared with it, in
  constant time, so that no certificate signed by the tenure's key passes;
- with TLS 1.3 a refused client learns of it at its first receive: "connected" means that the
  active node's welcome has come (``standby_link``), not that the handshake returned;
- validity dates are ignored (see ``certificates``): the pin says more than a clock can.

Source: docs/spec/libraries.md section 2, docs/spec/openbao-ha.md section 3.3.
"""

from __future__ import annotations

import hmac
import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import trio

from baoha.cluster.certificates import TenureIdentity
from baoha.errors import ForwardingError
from baoha.names import CLUSTER_ALPN

TLSStream = trio.SSLStream[trio.abc.Stream]

# The TLS 1.2 suites that fit an ECDSA key; TLS 1.3 has its own three.
# Source: docs/spec/openbao-ha.md section 3.3.
_TLS12_CIPHERS: Final = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305"
)

# OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which Python's VerifyFlags does not name.
_NO_CHECK_TIME: Final = 0x20_0000

CLOSED: Final = "connection closed by the peer"

# OpenSSL's reason -> what an operator can act on.
_CAUSES: Final = {
    "WRONG_VERSION_NUMBER": "not TLS: is this an HTTP port?",
    "HTTP_REQUEST": "not TLS: the peer speaks plain HTTP",
    "HTTPS_PROXY_REQUEST": "not TLS: the peer speaks plain HTTP",
    "UNSUPPORTED_PROTOCOL": "the peer offers no TLS version of 1.2 or newer",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the peer refuses TLS 1.2 and newer",
    "NO_SHARED_CIPHER": "the peer's certificate or cipher is not the cluster's",
    "CERTIFICATE_VERIFY_FAILED": "certificate is not the advertised one",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the peer shows no certificate",
    "UNEXPECTED_EOF_WHILE_READING": CLOSED,
    "TLSV1_ALERT_UNKNOWN_CA": "the peer refuses this node's certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the peer refuses this node's certificate",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the peer refuses this node's certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the peer refuses this node's certificate",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the peer refuses the TLS handshake",
}


class TLSRefused(ForwardingError):
    """The peer is not a node of this tenure, or does not speak the protocol. Nothing was sent."""


def server_context(identity: TenureIdentity) -> ssl.SSLContext:
    """Return a new context for the active node's side."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # No resumption: a resumed session would skip the certificates.
    context.num_tickets = 0
    _configure(context, identity)
    return context


def client_context(identity: TenureIdentity) -> ssl.SSLContext:
    """Return a new context for a standby; the server name to ask for is ``identity.name``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _configure(context, identity)
    return context


async def accept_tls(
    stream: trio.abc.Stream, context: ssl.SSLContext, identity: TenureIdentity
) -> TLSStream:
    """
    Do the active node's side of the handshake and check the peer. The caller sets the time limit.

    Raises:
        TLSRefused: the peer is not a node of this tenure. The caller closes ``stream``.
    """
    return await _handshake(trio.SSLStream(stream, context, server_side=True), identity)


async def connect_tls(
    stream: trio.abc.Stream, context: ssl.SSLContext, identity: TenureIdentity
) -> TLSStream:
    """
    Do a standby's side of the handshake and check the peer. The caller sets the time limit.

    Raises:
        TLSRefused: the peer is not the advertised active node. The caller closes ``stream``.
    """
    return await _handshake(
        trio.SSLStream(stream, context, server_hostname=identity.name), identity
    )


def describe_failure(error: BaseException | None) -> str:
    """Return the cause of a broken stream in words: OpenSSL's reason, or the system's."""
    while error is not None:
        reason = getattr(error, "reason", None)
        if isinstance(error, ssl.SSLError) and reason:
            known = _CAUSES.get(reason)
            return known or f"TLS failed: {reason.lower().replace('_', ' ')}"
        if isinstance(error, ssl.CertificateError):
            return _CAUSES["CERTIFICATE_VERIFY_FAILED"]
        if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and error.strerror:
            return error.strerror.lower()
        error = error.__cause__
    return "connection lost"


async def _handshake(stream: TLSStream, identity: TenureIdentity) -> TLSStream:
    try:
        await stream.do_handshake()
    except trio.BrokenResourceError as exc:
        cause = describe_failure(exc)
        if cause == CLOSED:
            cause = "the peer closed the connection in the TLS handshake"
        raise TLSRefused(cause) from exc
    protocol = stream.selected_alpn_protocol()
    if protocol != CLUSTER_ALPN:
        raise TLSRefused(f"the peer does not speak {CLUSTER_ALPN} (ALPN)")
    certificate = stream.getpeercert(binary_form=True)
    if certificate is None or not hmac.compare_digest(certificate, identity.certificate_der):
        raise TLSRefused(_CAUSES["CERTIFICATE_VERIFY_FAILED"])
    return stream


def _configure(context: ssl.SSLContext, identity: TenureIdentity) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_TLS12_CIPHERS)
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols([CLUSTER_ALPN])
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= _NO_CHECK_TIME
    context.load_verify_locations(cadata=identity.certificate_der)
    with _key_file(identity.certificate_pem() + identity.private_key_pem()) as path:
        context.load_cert_chain(path)


@contextmanager
def _key_file(pem: bytes) -> Iterator[str]:
    """
    Lend certificate and key to OpenSSL, which takes them from a path only.

    On Linux the file is anonymous memory: it has no name that could be left behind, not even by a
    kill in between. Elsewhere it is a file that only this user can read, removed at once.
    """
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        descriptor = os.memfd_create("baoha-tenure", os.MFD_CLOEXEC)
        with open(descriptor, "wb", buffering=0) as memory:
            memory.write(pem)
            yield f"/proc/self/fd/{descriptor}"
    else:
        # mkstemp creates the file with mode 0600.
        descriptor, name = tempfile.mkstemp(prefix="baoha-tenure-")
        try:
            with open(descriptor, "wb", buffering=0) as file:
                file.write(pem)
            yield name
        finally:
            Path(name).unlink()
