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
from pathlib import Path

import trio

from baoha.config.model import TLSConfig
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
ALPN = ("http/1.1",)
DEFAULT_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


class ServerTLS:
    """The TLS context of one listener, and how to renew it."""

    def __init__(self, config: TLSConfig) -> None:
        """
        Load the files.

        Raises:
            ConfigError: a file cannot be read, or they do not fit together.
        """
        self.config = config
        self._seen = _fingerprint(config.files)
        self.context = make_context(config)

    def reload(self, config: TLSConfig | None = None) -> bool:
        """
        Load the files again, or those of a new configuration, and say whether that worked.

        On failure the certificate in service stays, and the error is logged. (Neither operator nor
        supervisor waits for the answer of a signal, so the log is where it belongs.)
        """
        config = config or self.config
        seen = _fingerprint(config.files)
        try:
            self.context = make_context(config)
        except ConfigError as error:
            if config == self.config:
                self._seen = seen  # said once; looked at again when it changes again
            logger.error(
                "certificate not reloaded, the old one stays in service: error=%s", str(error)
            )
            return False
        self.config, self._seen = config, seen
        logger.info("certificate reloaded: file=%s", config.cert_file)
        return True

    async def run_auto_reload(self) -> None:
        """Reload whenever one of the files has changed, until cancelled."""
        while True:
            await trio.sleep(self.config.auto_reload_interval_s)
            if self.config.auto_reload:
                # In a thread: a file system that hangs must not stop the event loop.
                await trio.to_thread.run_sync(self.reload_if_changed, abandon_on_cancel=True)

    def reload_if_changed(self) -> bool:
        """Reload if a file is not what it was; say whether a new certificate is in service."""
        if _fingerprint(self.config.files) == self._seen:
            return False
        return self.reload()


def make_context(config: TLSConfig) -> ssl.SSLContext:
    """
    Return a context made from the files as they are now.

    Raises:
        ConfigError: a file cannot be read, or they do not fit together.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.minimum_version = VERSIONS[config.min_version]
    context.maximum_version = VERSIONS[config.max_version]
    context.set_alpn_protocols(list(ALPN))
    _set_ciphers(context, config.cipher_suites)
    _load_certificate(context, config.cert_file, config.key_file)
    _set_client_verification(context, config)
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


def _set_client_verification(context: ssl.SSLContext, config: TLSConfig) -> None:
    context.verify_mode = ssl.CERT_NONE
    if config.disable_client_certs:
        return
    if config.client_ca_file:
        _require_readable(config.client_ca_file)
        try:
            context.load_verify_locations(config.client_ca_file)
        except ssl.SSLError as error:
            raise ConfigError(
                f'failed to parse CA certificate in tls_client_ca_file "{config.client_ca_file}"'
            ) from error
        context.verify_mode = ssl.CERT_OPTIONAL
    if config.require_and_verify_client_cert:
        if not config.client_ca_file:
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
