"""Certificates of the API listener."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme
from cryptography.hazmat.primitives import serialization

from baoha.asgi import TLS_EXTENSION, Receive, Scope, Send
from baoha.config.model import TLSConfig
from baoha.errors import ConfigError
from baoha.server.http.listener import APIListener
from baoha.server.http.tls import ServerTLS, make_context
from tests.support.listener_configs import tcp_config

CA = trustme.CA()
CLIENT_CA = trustme.CA()


async def show_certificate(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer the client's leaf certificate."""
    chain = scope["extensions"][TLS_EXTENSION]["client_cert_chain"]
    headers = [(b"x-scheme", scope["scheme"].encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": chain[0] if chain else b"none"})


def write_certificate(folder: Path, name: str = "server", *hosts: str) -> TLSConfig:
    issued = CA.issue_cert(*(hosts or ("127.0.0.1",)))
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    key.write_bytes(issued.private_key_pem.bytes())
    return TLSConfig(cert_file=str(cert), key_file=str(key))


def with_client_ca(settings: TLSConfig, folder: Path, **changes: Any) -> TLSConfig:
    file = folder / "client-ca.pem"
    CLIENT_CA.cert_pem.write_to_path(str(file))
    return TLSConfig(
        cert_file=settings.cert_file,
        key_file=settings.key_file,
        client_ca_file=str(file),
        **changes,
    )


def client_context(*, certificate: trustme.LeafCert | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    CA.configure_trust(context)
    if certificate is not None:
        certificate.configure_cert(context)
    return context


@asynccontextmanager
async def listening(settings: TLSConfig, **options: Any) -> AsyncIterator[APIListener]:
    listener = APIListener(show_certificate, tcp_config(tls=settings, **options))
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            await nursery.start(listener.serve)
            yield listener
            listener.stop()


@dataclass(frozen=True)
class Answer:
    """What a client got; ``data`` is empty when it was not let in."""

    data: bytes
    certificate: bytes | None = None
    alpn: str | None = None


async def ask(listener: APIListener, context: ssl.SSLContext) -> Answer:
    port = int(listener.address.rpartition(":")[2])
    stream = await trio.open_ssl_over_tcp_stream(
        "127.0.0.1", port, https_compatible=True, ssl_context=context
    )
    async with stream:
        try:
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            certificate, alpn = stream.getpeercert(True), stream.selected_alpn_protocol()
            data = b"".join([part async for part in stream])
        except trio.BrokenResourceError:
            return Answer(b"")
        return Answer(data, certificate, alpn)


async def test_tls_listener_answers_over_https_without_http2(tmp_path: Path) -> None:
    context = client_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with listening(write_certificate(tmp_path)) as listener:
        answer = await ask(listener, context)
    assert b"X-Scheme: https" in answer.data
    assert b"none" in answer.data
    assert answer.alpn == "http/1.1"


async def test_tls_listener_full_of_stalled_handshakes_makes_room(tmp_path: Path) -> None:
    async with listening(write_certificate(tmp_path), connections_max=2) as listener:
        port = int(listener.address.rpartition(":")[2])
        async with (
            await trio.open_tcp_stream("127.0.0.1", port) as first,
            await trio.open_tcp_stream("127.0.0.1", port),
        ):
            with trio.fail_after(5):  # the time limit of a handshake is 10 s
                assert b"200" in (await ask(listener, client_context())).data
            assert await first.receive_some(10) == b""


async def test_tls_plain_http_is_told_what_is_wrong(tmp_path: Path) -> None:
    async with listening(write_certificate(tmp_path)) as listener:
        port = int(listener.address.rpartition(":")[2])
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            answer = b"".join([part async for part in stream])
    assert answer.startswith(b"HTTP/1.0 400 Bad Request")
    assert answer.endswith(b"Client sent an HTTP request to an HTTPS server.\n")


async def test_tls_client_certificate_reaches_the_app(tmp_path: Path) -> None:
    certificate = CLIENT_CA.issue_cert("client@example.org")
    settings = with_client_ca(write_certificate(tmp_path), tmp_path)
    async with listening(settings) as listener:
        answer = await ask(listener, client_context(certificate=certificate))
        without = await ask(listener, client_context())
    leaf = ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode())
    assert leaf in answer.data
    assert b"none" in without.data


async def test_tls_required_client_certificate_missing_is_refused(tmp_path: Path) -> None:
    settings = with_client_ca(
        write_certificate(tmp_path), tmp_path, require_and_verify_client_cert=True
    )
    async with listening(settings) as listener:
        assert (await ask(listener, client_context())).data == b""
        certificate = CLIENT_CA.issue_cert("client@example.org")
        answer = await ask(listener, client_context(certificate=certificate))
        assert b"200" in answer.data


async def test_tls_refused_client_is_told_why(tmp_path: Path) -> None:
    settings = with_client_ca(
        write_certificate(tmp_path), tmp_path, require_and_verify_client_cert=True
    )
    async with listening(settings) as listener:
        port = int(listener.address.rpartition(":")[2])
        async with await trio.open_tcp_stream("127.0.0.1", port) as transport:
            stream = trio.SSLStream(transport, client_context(), server_hostname="127.0.0.1")
            await stream.do_handshake()
            with pytest.raises(trio.BrokenResourceError) as caught:
                await stream.receive_some(10)
    assert isinstance(caught.value.__cause__, ssl.SSLError)
    assert caught.value.__cause__.reason == "TLSV13_ALERT_CERTIFICATE_REQUIRED"


async def test_tls_reload_new_connections_get_the_new_certificate(tmp_path: Path) -> None:
    settings = write_certificate(tmp_path)
    async with listening(settings) as listener:
        before = await ask(listener, client_context())
        write_certificate(tmp_path)
        assert listener.tls is not None
        assert listener.tls.reload_if_changed()
        assert not listener.tls.reload_if_changed()
        after = await ask(listener, client_context())
    assert before.certificate != after.certificate


async def test_tls_reload_bad_file_keeps_the_old_certificate(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = write_certificate(tmp_path)
    async with listening(settings) as listener:
        (tmp_path / "server.key").write_text("nonsense")
        assert listener.tls is not None
        assert not listener.tls.reload_if_changed()
        answer = await ask(listener, client_context())
    assert b"200" in answer.data
    assert str(tmp_path / "server.key") in caplog.text
    assert "nonsense" not in caplog.text


async def test_tls_auto_reload_notices_a_changed_file(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    tls = ServerTLS(write_certificate(tmp_path))
    first = tls.context
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tls.run_auto_reload)
        await trio.sleep(31)
        assert tls.context is first
        write_certificate(tmp_path)
        await trio.sleep(31)
        assert tls.context is not first
        nursery.cancel_scope.cancel()


async def test_tls_auto_reload_that_is_switched_on_later_begins_to_look(
    tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    config = write_certificate(tmp_path)
    tls = ServerTLS(replace(config, auto_reload=False))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tls.run_auto_reload)
        first = tls.context
        write_certificate(tmp_path)
        await trio.sleep(100)
        assert tls.context is first
        assert tls.reload(config)
        second = tls.context
        write_certificate(tmp_path)
        await trio.sleep(100)
        assert tls.context is not second
        nursery.cancel_scope.cancel()


def test_tls_new_settings_of_another_file_take_over(tmp_path: Path) -> None:
    tls = ServerTLS(write_certificate(tmp_path))
    other = write_certificate(tmp_path, "other")
    assert tls.reload(other)
    assert tls.config == other
    assert not tls.reload(TLSConfig(cert_file="/nowhere", key_file="/nowhere"))
    assert tls.config == other


def test_tls_missing_file_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.pem")
    with pytest.raises(ConfigError, match=f'cannot read "{missing}": No such file'):
        make_context(TLSConfig(cert_file=missing, key_file=missing))


def test_tls_key_of_another_certificate_is_an_error(tmp_path: Path) -> None:
    one, two = write_certificate(tmp_path, "one"), write_certificate(tmp_path, "two")
    with pytest.raises(ConfigError, match=r'one\.key" does not belong to the certificate'):
        make_context(TLSConfig(cert_file=two.cert_file, key_file=one.key_file))


def test_tls_certificate_that_is_none_is_named(tmp_path: Path) -> None:
    settings = write_certificate(tmp_path)
    (tmp_path / "server.pem").write_text("nonsense")
    with pytest.raises(ConfigError, match=r'server\.pem" is not valid PEM'):
        make_context(settings)


def test_tls_encrypted_key_is_an_error_and_no_prompt(tmp_path: Path) -> None:
    settings = write_certificate(tmp_path)
    key = serialization.load_pem_private_key((tmp_path / "server.key").read_bytes(), None)
    (tmp_path / "server.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    with pytest.raises(ConfigError, match="passphrase"):
        make_context(settings)


def test_tls_bad_client_ca_is_named(tmp_path: Path) -> None:
    settings = write_certificate(tmp_path)
    bad = tmp_path / "ca.pem"
    bad.write_text("nonsense")
    with pytest.raises(ConfigError, match=r"ca\.pem"):
        make_context(
            TLSConfig(
                cert_file=settings.cert_file, key_file=settings.key_file, client_ca_file=str(bad)
            )
        )


def test_tls_versions_and_ciphers_are_set(tmp_path: Path) -> None:
    settings = write_certificate(tmp_path)
    context = make_context(
        TLSConfig(
            cert_file=settings.cert_file,
            key_file=settings.key_file,
            min_version="tls12",
            max_version="tls12",
            cipher_suites=("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",),
        )
    )
    assert context.maximum_version is ssl.TLSVersion.TLSv1_2
    names = [cipher["name"] for cipher in context.get_ciphers() if "TLSv1.2" in cipher["protocol"]]
    assert names == ["ECDHE-ECDSA-AES256-GCM-SHA384"]


def test_tls_unknown_cipher_is_named(tmp_path: Path) -> None:
    settings = write_certificate(tmp_path)
    with pytest.raises(ConfigError, match="TLS_ROT13"):
        make_context(
            TLSConfig(
                cert_file=settings.cert_file,
                key_file=settings.key_file,
                cipher_suites=("TLS_ROT13",),
            )
        )


def test_tls_unreadable_key_is_named(tmp_path: Path) -> None:
    settings = write_certificate(tmp_path)
    os.unlink(settings.key_file)
    Path(settings.key_file).mkdir()
    with pytest.raises(ConfigError, match=r"server\.key"):
        make_context(settings)
