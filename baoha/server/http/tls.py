"""
The certificate of an API listener: loading, checking, changing it while the listener runs.

Rules of this file:

1. A new certificate replaces the old one only as a whole, after everything was read and fitted
   together in a context of its own. A bad file leaves the old certificate in service.
2. Every error names the file, and none of them shows what is in it.

Theory of operation. A connection takes ``ServerTLS.context`` when it is accepted, so a reload is
one assignment; connections that are open keep what they have.

Source: listener options of OpenBao 2.7.2; Python's ``ssl`` asks for a client certificate only to
verify it, so without a client CA none is asked for (OpenBao asks, and shows it unverified).
"""

from __future__ import annotations

import logging
import os
import ssl
from dataclasses import dataclass
from pathlib import Path

import trio

from baoha.errors import ConfigError

logger = logging.getLogger("baoha.server.tls")

VERSIONS = {
    "tls10": ssl.TLSVersion.TLSv1,
    "tls11": ssl.TLSVersion.TLSv1_1,
    "tls12": ssl.TLSVersion.TLSv1_2,
    "tls13": ssl.TLSVersion.TLSv1_3,
}

# IANA names, as OpenBao's configuration has them, to OpenSSL's. TLS 1.3 suites are not settable.
CIPHER_SUITES = {
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256": "AES128-SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256": "ECDHE-ECDSA-AES128-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256": "ECDHE-RSA-AES128-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
}
DEFAULT_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSSettings:
    """
    The ``tls_*`` keys of one listener.

    Attributes:
        auto_reload_s: how often the files are looked at, in seconds; 0 turns it off.
    """

    cert_file: str
    key_file: str
    min_version: str = "tls12"
    max_version: str = "tls13"
    cipher_suites: tuple[str, ...] = ()
    client_ca_file: str = ""
    require_client_cert: bool = False
    disable_client_certs: bool = False
    auto_reload_s: float = 30.0
    alpn: tuple[str, ...] = ("http/1.1",)

    def __post_init__(self) -> None:
        for key, value in (("min", self.min_version), ("max", self.max_version)):
            if value not in VERSIONS:
                known = ", ".join(VERSIONS)
                raise ConfigError(f'tls_{key}_version: "{value}" is not one of {known}')
        if VERSIONS[self.min_version] > VERSIONS[self.max_version]:
            raise ConfigError(
                '"tls_max_version" must be greater than or equal to "tls_min_version"'
            )
        if self.require_client_cert and self.disable_client_certs:
            raise ConfigError(
                '"tls_disable_client_certs" and "tls_require_and_verify_client_cert" are mutually '
                "exclusive"
            )

    @property
    def files(self) -> tuple[str, ...]:
        """Every file that the context is made from."""
        ca = (self.client_ca_file,) if self.client_ca_file else ()
        return (self.cert_file, self.key_file, *ca)


class ServerTLS:
    """The TLS context of one listener, and how to renew it."""

    def __init__(self, settings: TLSSettings) -> None:
        """
        Load the files.

        Raises:
            ConfigError: a file cannot be read, or they do not fit together.
        """
        self.settings = settings
        self._seen = _fingerprint(settings.files)
        self.context = make_context(settings)

    def reload(self, settings: TLSSettings | None = None) -> bool:
        """
        Load the files again, or those of new settings, and say whether that worked.

        On failure the certificate in service stays, and the error is logged. (Neither operator nor
        supervisor waits for the answer of a signal, so the log is where it belongs.)
        """
        settings = settings or self.settings
        seen = _fingerprint(settings.files)
        try:
            self.context = make_context(settings)
        except ConfigError as error:
            if settings == self.settings:
                self._seen = seen  # said once; looked at again when it changes again
            logger.error(
                "certificate not reloaded, the old one stays in service: error=%s", str(error)
            )
            return False
        self.settings, self._seen = settings, seen
        logger.info("certificate reloaded: file=%s", settings.cert_file)
        return True

    async def run_auto_reload(self) -> None:
        """Reload whenever one of the files has changed, until cancelled."""
        while self.settings.auto_reload_s > 0:
            await trio.sleep(self.settings.auto_reload_s)
            # In a thread: a file system that hangs must not stop the event loop.
            await trio.to_thread.run_sync(self.reload_if_changed, abandon_on_cancel=True)

    def reload_if_changed(self) -> bool:
        """Reload if a file is not what it was; say whether a new certificate is in service."""
        if _fingerprint(self.settings.files) == self._seen:
            return False
        return self.reload()


def make_context(settings: TLSSettings) -> ssl.SSLContext:
    """
    Return a context made from the files as they are now.

    Raises:
        ConfigError: a file cannot be read, or they do not fit together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.minimum_version = VERSIONS[settings.min_version]
    context.maximum_version = VERSIONS[settings.max_version]
    context.set_alpn_protocols(list(settings.alpn))
    _set_ciphers(context, settings.cipher_suites)
    _load_certificate(context, settings.cert_file, settings.key_file)
    _set_client_verification(context, settings)
    return context


def _set_ciphers(context: ssl.SSLContext, names: tuple[str, ...]) -> None:
    unknown = [name for name in names if name not in CIPHER_SUITES]
    if unknown:
        raise ConfigError(f'tls_cipher_suites: unsupported cipher "{unknown[0]}"')
    chosen = ":".join(CIPHER_SUITES[name] for name in names) or DEFAULT_CIPHERS
    try:
        context.set_ciphers(chosen)
    except ssl.SSLError as error:
        raise ConfigError("tls_cipher_suites: none of them is available here") from error


def _load_certificate(context: ssl.SSLContext, cert_file: str, key_file: str) -> None:
    for name in (cert_file, key_file):
        _require_readable(name)

    def no_password() -> bytes:
        # Without this, OpenSSL would ask for it on the terminal and wait for ever.
        raise ConfigError(f'error loading TLS key: "{key_file}" is encrypted with a passphrase')

    try:
        context.load_cert_chain(cert_file, key_file, password=no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(
                f'error loading TLS cert: private key "{key_file}" does not belong to the '
                f'certificate "{cert_file}"'
            ) from error
        culprit = key_file if _is_certificate(cert_file) else cert_file
        raise ConfigError(
            f'error loading TLS cert: "{culprit}" is not valid PEM of the right kind '
            f"({error.reason or 'unreadable'})"
        ) from error


def _is_certificate(name: str) -> bool:
    probe = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        probe.load_verify_locations(name)
    except ssl.SSLError:
        return False
    return True


def _set_client_verification(context: ssl.SSLContext, settings: TLSSettings) -> None:
    context.verify_mode = ssl.CERT_NONE
    if settings.disable_client_certs:
        return
    if settings.client_ca_file:
        _require_readable(settings.client_ca_file)
        try:
            context.load_verify_locations(settings.client_ca_file)
        except ssl.SSLError as error:
            raise ConfigError(
                f'failed to parse CA certificate in tls_client_ca_file "{settings.client_ca_file}"'
            ) from error
        context.verify_mode = ssl.CERT_OPTIONAL
    if settings.require_client_cert:
        if not settings.client_ca_file:
            context.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        context.verify_mode = ssl.CERT_REQUIRED


def _require_readable(name: str) -> None:
    try:
        with Path(name).open("rb"):
            pass
    except OSError as error:
        raise ConfigError(
            f'error loading TLS file: cannot read "{name}": {error.strerror}'
        ) from error


def _fingerprint(names: tuple[str, ...]) -> tuple[tuple[int, int, int] | None, ...]:
    """Return what changes when a file is replaced or rewritten; None for one that is not there."""
    found: list[tuple[int, int, int] | None] = []
    for name in names:
        try:
            status = os.stat(name)
        except OSError:
            found.append(None)
        else:
            found.append((status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(found)


def client_certificates(stream: trio.SSLStream[trio.SocketStream]) -> tuple[bytes, ...]:
    """Return the chain that a client has shown, in DER, leaf first; empty without one."""
    # The chain is public from Python 3.13 on; before, only the leaf is.
    chain = getattr(stream, "get_unverified_chain", None)
    if chain is not None:
        return tuple(chain())
    leaf = stream.getpeercert(binary_form=True)
    return (leaf,) if leaf else ()
