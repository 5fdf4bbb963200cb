"""
Looks below HTTP: names, TCP, TLS, ALPN.

Rules of this file. No certificate of ours is shown and nothing is sent beyond the handshake. The
cluster port is looked at once or twice, not in a loop: the server logs a warning for each unknown
ALPN. Every look has a limit of its own, and a failure is a record.

Theory of operation of the cluster port. The hello offers OpenBao's forwarding protocol and baoha's.
The active node's listener agrees to one and shows a certificate with the common name fw-<uuid>. A
cluster listener of a node that is not active answers alert 80 (or 112, asked for raft). An HTTPS
API refuses the protocol or ignores it, and shows an ordinary certificate.

Source: docs/spec/cluster-cli.md section 6.1; measured on OpenBao 2.7.2 and on baoha.
"""

from __future__ import annotations

import socket
import ssl
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import urlsplit

import trio

from baoha.names import CLUSTER_ALPN, OPENBAO_FORWARDING_ALPN, OPENBAO_RAFT_ALPN
from baoha_cli.client.address import Endpoint
from baoha_cli.client.client import connect_error
from baoha_cli.client.tls import client_context, describe_tls_error
from baoha_cli.client.transport import TLSOptions
from baoha_cli.diagnose.evidence import Certificate, NameLook, PortKind, PortLook, TlsLook
from baoha_cli.diagnose.gather.certificates import read_certificate
from baoha_cli.failures import ErrorKind
from baoha_cli.survey.ask import time_of_day

TCP_S: Final = 1.5
HANDSHAKE_S: Final = 2.0
ALERT_S: Final = 0.5
_CHAIN_MAX: Final = 10
_NOT_TLS: Final = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")
_NOT_ACTIVE: Final = ("ALERT_INTERNAL_ERROR", "UNRECOGNIZED_NAME")
_NO_ALPN: Final = "NO_APPLICATION_PROTOCOL"


@dataclass(frozen=True)
class _Shake:
    """One handshake: what came of it."""

    kind: ErrorKind | None = None
    reason: str = ""
    text: str = ""
    code: int = 0
    chain: tuple[Certificate, ...] = ()
    version: str = ""
    alpn: str = ""


async def look_at_port(address: str) -> PortLook:
    """Find out what answers at a cluster address."""
    where = _host_and_port(address)
    if where is None:
        return PortLook(address, PortKind.INVALID, "it is not a usable address")
    context = _open_context([OPENBAO_FORWARDING_ALPN, CLUSTER_ALPN])
    shake = await _shake(*where, context, "")
    if shake.kind is ErrorKind.TLS and _NO_ALPN in shake.reason:
        # An HTTP server that is strict about ALPN: ask again without, to see its certificate.
        shake = await _shake(*where, _open_context([]), "")
        return _without_alpn(address, shake)
    if shake.kind is ErrorKind.TLS and not any(text in shake.reason for text in _NOT_TLS):
        if any(text in shake.reason for text in _NOT_ACTIVE):
            return await _confirm_listener(address, where, shake)
        return PortLook(address, PortKind.CLOSED, shake.text)
    if shake.kind is not None:
        return PortLook(address, _port_kind(shake), shake.text)
    names = _names_of(shake)
    if names and names[0].startswith("fw-"):
        speaks = shake.alpn or "an unknown protocol"
        return PortLook(address, PortKind.ACTIVE, f"speaks {speaks}", names, shake.alpn)
    return _without_alpn(address, shake)


async def _confirm_listener(address: str, where: tuple[str, int], first: _Shake) -> PortLook:
    """Tell a cluster listener that is not active from another strict TLS server."""
    again = await _shake(*where, _open_context([OPENBAO_RAFT_ALPN]), "")
    if again.kind is None and not (again.chain and _names_of(again)[0].startswith("fw-")):
        return _without_alpn(address, again)
    detail = "a cluster listener, but not of the active node"
    if not any(text in again.reason for text in _NOT_ACTIVE):
        return PortLook(address, PortKind.CLOSED, first.text)
    return PortLook(address, PortKind.LISTENER, detail)


def _without_alpn(address: str, shake: _Shake) -> PortLook:
    if shake.kind is not None:
        return PortLook(address, _port_kind(shake), shake.text)
    names = _names_of(shake)
    shown = ", ".join(names[:3]) or "no name"
    return PortLook(address, PortKind.HTTPS, f"an ordinary certificate for {shown}", names)


def _names_of(shake: _Shake) -> tuple[str, ...]:
    """Return the names of the certificate shown, its common name first."""
    if not shake.chain:
        return ()
    first = shake.chain[0]
    common = first.subject.removeprefix("CN=") if first.subject.startswith("CN=fw-") else ""
    return tuple(name for name in (common, *first.names) if name)


def _port_kind(shake: _Shake) -> PortKind:
    if shake.kind is ErrorKind.TLS and any(text in shake.reason for text in _NOT_TLS):
        return PortKind.PLAIN
    kinds = {
        ErrorKind.DNS: PortKind.DNS,
        ErrorKind.REFUSED: PortKind.REFUSED,
        ErrorKind.TIMEOUT: PortKind.TIMEOUT,
        ErrorKind.UNREACHABLE: PortKind.TIMEOUT,
    }
    return kinds.get(shake.kind, PortKind.CLOSED) if shake.kind else PortKind.CLOSED


async def look_at_tls(
    endpoint: Endpoint, options: TLSOptions, *, await_alert: bool = False
) -> TlsLook:
    """
    Look at the certificate of an HTTPS address, and at what is wrong with it.

    Args:
        endpoint: where.
        options: CA and server name; a client certificate is not shown.
        await_alert: listen for a moment, since with TLS 1.3 a server refuses after the handshake.
    """
    name = options.server_name or endpoint.name or endpoint.host
    alert_s = ALERT_S if await_alert else 0.0
    context = _open_context(["http/1.1"])
    found = await _shake(endpoint.host, endpoint.port, context, name, alert_s=alert_s)
    look = TlsLook(
        endpoint,
        kind=found.kind,
        error=found.text,
        chain=found.chain,
        version=found.version,
        refusal=found.text if found.kind is None else "",
        read_at=time_of_day(),
    )
    if found.kind is not None:
        return look
    strict = client_context(replace(options, client_cert="", client_key="", skip_verify=False))
    checked = await _shake(endpoint.host, endpoint.port, strict, name)
    look = replace(
        look, verify_code=checked.code, verify_error=checked.text if checked.code else ""
    )
    nameless = await _shake(endpoint.host, endpoint.port, _open_context(["http/1.1"]), "")
    old = await _shake(endpoint.host, endpoint.port, _old_context(), name)
    return replace(
        look,
        nameless=nameless.chain[0].fingerprint if nameless.chain else "",
        speaks_old=old.kind is None,
    )


async def look_at_name(host: str, port: int) -> NameLook:
    """Resolve a name, and see which of its addresses accept a connection."""
    try:
        with trio.fail_after(TCP_S):
            listed = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
    except trio.TooSlowError:
        return NameLook(host, error="the name server does not answer")
    except (OSError, UnicodeError):
        return NameLook(host, error="no such host")
    addresses = sorted({str(entry[4][0]) for entry in listed})
    if len(addresses) < 2:
        return NameLook(host, tuple(addresses))
    dead: list[str] = []

    async def knock(address: str) -> None:
        stream, _, _ = await _connect(address, port)
        if stream is None:
            dead.append(address)
        else:
            await trio.aclose_forcefully(stream)

    async with trio.open_nursery() as nursery:
        for address in addresses:
            nursery.start_soon(knock, address)
    return NameLook(host, tuple(addresses), dead=tuple(sorted(dead)))


async def _shake(
    host: str, port: int, context: ssl.SSLContext, name: str, *, alert_s: float = 0.0
) -> _Shake:
    """Connect, do a TLS handshake, close; no server name is sent when it is ""."""
    stream, kind, text = await _connect(host, port)
    if stream is None:
        return _Shake(kind, text=text)
    try:
        with trio.move_on_after(HANDSHAKE_S):
            return await _shake_over(stream, context, name, alert_s)
        return _Shake(ErrorKind.TIMEOUT, text="no answer to the TLS hello")
    finally:
        await trio.aclose_forcefully(stream)


async def _shake_over(
    stream: trio.SocketStream, context: ssl.SSLContext, name: str, alert_s: float
) -> _Shake:
    try:
        secured = trio.SSLStream(
            stream, context, server_hostname=name or None, https_compatible=True
        )
        await secured.do_handshake()
    except trio.BrokenResourceError as exc:
        cause = exc.__cause__
        error = cause if isinstance(cause, OSError) else None
        _, text = describe_tls_error(error)
        reason = (error.reason or "") if isinstance(error, ssl.SSLError) else ""
        if isinstance(error, ssl.SSLEOFError) or error is None:
            reason = "EOF"
        code = error.verify_code if isinstance(error, ssl.SSLCertVerificationError) else 0
        return _Shake(ErrorKind.TLS, reason, text, code)
    except ValueError:
        return _Shake(ErrorKind.TLS, "NAME", "the server name is not valid")
    # Read first: OpenSSL forgets all of it when an alert ends the connection.
    shake = _Shake(
        chain=_chain(secured),
        version=secured.version() or "",
        alpn=secured.selected_alpn_protocol() or "",
    )
    return replace(shake, text=await _alert(secured, alert_s)) if alert_s else shake


async def _alert(secured: trio.SSLStream[trio.SocketStream], limit_s: float) -> str:
    """Return the words of an alert that comes after the handshake, or ""."""
    with trio.move_on_after(limit_s):
        try:
            await secured.receive_some(1)
        except trio.BrokenResourceError as exc:
            cause = exc.__cause__
            if isinstance(cause, ssl.SSLError):
                return describe_tls_error(cause)[1]
    return ""


def _chain(secured: trio.SSLStream[trio.SocketStream]) -> tuple[Certificate, ...]:
    """Return the chain as it was sent; only the first certificate where Python hides the rest."""
    leaf = secured.getpeercert(binary_form=True) or b""
    sent = [leaf]
    inner = getattr(secured, "_ssl_object", None)
    reader = getattr(inner, "get_unverified_chain", None)  # Python 3.13 and newer
    if reader is None:
        reader = getattr(getattr(inner, "_sslobj", None), "get_unverified_chain", None)
    if reader is not None:
        listed = reader() or []
        sent = [
            item if isinstance(item, bytes) else item.public_bytes(_der_form())
            for item in listed[:_CHAIN_MAX]
        ] or sent
    read = [read_certificate(der) for der in sent if der]
    return tuple(one for one in read if one is not None)


def _der_form() -> int:
    import _ssl

    return int(_ssl.ENCODING_DER)


async def _connect(host: str, port: int) -> tuple[trio.SocketStream | None, ErrorKind | None, str]:
    try:
        with trio.move_on_after(TCP_S):
            return await trio.open_tcp_stream(host, port), None, ""
    except (socket.gaierror, UnicodeError):
        return None, ErrorKind.DNS, "no such host"
    except OSError as exc:
        return None, *connect_error(exc)
    return None, ErrorKind.TIMEOUT, "i/o timeout"


def _open_context(protocols: Sequence[str]) -> ssl.SSLContext:
    """Return a context that accepts any certificate: it is looked at, not trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def _old_context() -> ssl.SSLContext:
    """Return a context that speaks nothing newer than TLS 1.1; nothing is sent over it."""
    context = _open_context(["http/1.1"])
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # old versions are the point here
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    return context


def _host_and_port(address: str) -> tuple[str, int] | None:
    """Take a cluster address apart; which scheme it has does not count."""
    if "://" not in address:
        return None
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    if not host or not port or any(ord(char) <= 32 for char in host):
        return None
    return host, port
