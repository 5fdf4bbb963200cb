"""
TLS settings of the client: files and switches to an SSLContext.

Rule of this file: verification is on unless the operator switched it off by name, and a file that
cannot be read ends the command; it never falls back to the system's certificates.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

from baoha_cli.client.transport import TLSOptions
from baoha_cli.exits import Verdict
from baoha_cli.failures import CommandFailed, ErrorKind, UsageFailed

# OpenSSL's codes for "no trusted issuer": unable to get (local) issuer, self-signed, not verified.
_UNKNOWN_AUTHORITY: Final = frozenset({2, 18, 19, 20, 21})
_EXPIRED: Final = 10
_NOT_YET_VALID: Final = 9
_WRONG_NAME: Final = frozenset({62, 64})
# What OpenSSL says when the other side does not speak TLS at all.
_NOT_TLS: Final = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE")


def client_context(options: TLSOptions) -> ssl.SSLContext:
    """
    Build the client's SSLContext.

    Raises:
        CommandFailed: a file is missing or is not what it should be.
    """
    if bool(options.client_cert) != bool(options.client_key):
        raise UsageFailed("a client certificate needs both --client-cert and --client-key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if options.skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if options.ca_cert:
        _load_authority(context, Path(options.ca_cert))
    elif options.ca_path:
        _load_directory(context, Path(options.ca_path))
    elif not options.skip_verify:
        context.load_default_certs()
    if options.client_cert:
        _load_identity(context, options)
    return context


def describe_tls_error(error: ssl.SSLError | OSError | None) -> tuple[ErrorKind, str]:
    """Say what went wrong in a handshake, in the words people search for."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return ErrorKind.TLS, f"tls: failed to verify certificate: x509: {_verify_text(error)}"
    reason = (error.reason or "") if isinstance(error, ssl.SSLError) else ""
    if any(word in reason for word in _NOT_TLS):
        return ErrorKind.TLS, "http: server gave HTTP response to HTTPS client"
    if isinstance(error, ssl.SSLEOFError) or error is None:
        return ErrorKind.TLS, "tls: the server closed the connection during the handshake"
    if isinstance(error, ssl.SSLError):
        words = reason.replace("_", " ").lower() or "handshake failed"
        return ErrorKind.TLS, f"tls: {words}"
    return ErrorKind.UNREACHABLE, f"connection lost: {(error.strerror or str(error)).lower()}"


def _verify_text(error: ssl.SSLCertVerificationError) -> str:
    code = error.verify_code
    if code in _UNKNOWN_AUTHORITY:
        return "certificate signed by unknown authority"
    if code == _EXPIRED:
        return "certificate has expired"
    if code == _NOT_YET_VALID:
        return "certificate is not yet valid"
    if code in _WRONG_NAME:
        return f"certificate is not valid for this address ({error.verify_message})"
    return error.verify_message or "certificate verify failed"


def _load_authority(context: ssl.SSLContext, path: Path) -> None:
    try:
        context.load_verify_locations(cafile=str(path))
    except ssl.SSLError as exc:
        raise _file_failed("CA file", path, "holds no PEM certificate") from exc
    except (OSError, ValueError) as exc:
        raise _file_failed("CA file", path, _reason(exc)) from exc


def _load_directory(context: ssl.SSLContext, path: Path) -> None:
    try:
        files = sorted(entry for entry in path.iterdir() if entry.is_file())
    except (OSError, ValueError) as exc:
        raise _file_failed("CA directory", path, _reason(exc)) from exc
    if not files:
        raise _file_failed("CA directory", path, "is empty")
    for file in files:
        _load_authority(context, file)


def _load_identity(context: ssl.SSLContext, options: TLSOptions) -> None:
    path = Path(options.client_cert)
    try:
        # An encrypted key would make OpenSSL ask on the terminal; an empty password refuses it.
        context.load_cert_chain(options.client_cert, options.client_key, password="")
    except ssl.SSLError as exc:
        raise _file_failed("client certificate", path, "or its key cannot be used") from exc
    except (OSError, ValueError) as exc:
        raise _file_failed("client certificate", path, _reason(exc)) from exc


def _reason(exc: OSError | ValueError) -> str:
    if isinstance(exc, OSError):
        return (exc.strerror or "cannot be read").lower()
    return "is not a file name"


def _file_failed(what: str, path: Path, why: str) -> CommandFailed:
    return CommandFailed(
        f"Error loading {what}: {ascii(str(path))[1:-1]}: {why}", verdict=Verdict.LOCAL
    )
