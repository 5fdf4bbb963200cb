"""The cluster listener on real sockets: who is let in, and that strangers delay nobody."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from baoha.cluster.active_listener import serve_cluster
from baoha.cluster.certificates import TenureIdentity, create_tenure_identity
from baoha.cluster.network import TCPNetwork
from baoha.cluster.standby_link import StandbyLink
from baoha.cluster.tls import client_context, server_context
from baoha.core.view import LinkState
from baoha.names import CLUSTER_ALPN
from baoha.sansio.wire.frames import ChannelLimits
from baoha.timing import HATiming
from tests.support.channel import (
    IDENTITY,
    RecordingActive,
    RecordingStandby,
    advertise,
    request,
    wait_until,
)

HOST = "127.0.0.1"
NOW = datetime(2026, 11, 23, tzinfo=UTC)


@dataclass
class Listener:
    port: int
    active: RecordingActive
    nursery: trio.Nursery
    problems: list[str] = field(default_factory=list)
    strangers: list[trio.SocketStream] = field(default_factory=list)

    async def connect(self) -> trio.SocketStream:
        """Open a connection that is closed with the listener, whatever becomes of the test."""
        stream = await trio.open_tcp_stream(HOST, self.port)
        self.strangers.append(stream)
        return stream

    @asynccontextmanager
    async def link(
        self,
        identity: TenureIdentity = IDENTITY,
        timing: HATiming | None = None,
        name: str = "standby",
    ) -> AsyncIterator[tuple[StandbyLink, RecordingStandby]]:
        async with open_link(self.port, identity, timing, name) as opened:
            yield opened

    async def wait_problem(self, text: str) -> None:
        with trio.fail_after(5):
            await wait_until(lambda: any(text in problem for problem in self.problems))


@asynccontextmanager
async def open_link(
    port: int,
    identity: TenureIdentity = IDENTITY,
    timing: HATiming | None = None,
    name: str = "standby",
) -> AsyncIterator[tuple[StandbyLink, RecordingStandby]]:
    handler = RecordingStandby(name=name)
    link = StandbyLink(
        TCPNetwork(), advertise(identity, HOST, port), handler, timing=timing or HATiming()
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(link.run)
        yield link, handler
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_listener(
    timing: HATiming | None = None, limits: ChannelLimits | None = None
) -> AsyncIterator[Listener]:
    active = RecordingActive()
    problems: list[str] = []

    async def listen(
        task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        await serve_cluster(
            TCPNetwork(),
            HOST,
            0,
            IDENTITY,
            execute=active.execute,
            standbys=active,
            timing=timing or HATiming(),
            limits=limits,
            on_problem=lambda address, cause: problems.append(f"{address} {cause}"),
            task_status=task_status,
        )

    async with trio.open_nursery() as nursery:
        _host, port = await nursery.start(listen)
        listener = Listener(port, active, nursery, problems)
        try:
            yield listener
        finally:
            for stream in listener.strangers:
                stream.socket.close()
        nursery.cancel_scope.cancel()


async def wait_up(link: StandbyLink, handler: RecordingStandby) -> None:
    with trio.fail_after(5):
        await handler.wait_until(lambda: link.state is LinkState.UP)


async def wait_failed(link: StandbyLink, handler: RecordingStandby) -> str:
    with trio.fail_after(10):
        await handler.wait_until(lambda: link.state is LinkState.FAILED)
    return link.last_error


async def test_good_peer_over_tcp_forwards() -> None:
    async with open_listener() as listener, listener.link() as (link, handler):
        await wait_up(link, handler)
        assert (await link.forward(request(body=b"x" * 3_000_000))).body == b"x" * 3_000_000
        (peer,) = listener.active.peers
        assert abs(datetime.now(UTC).timestamp() - peer.echoed_at_unix_s) < 10


async def test_two_hundred_idle_and_half_open_connections_delay_no_good_peer() -> None:
    """Source: docs/spec/openbao-ha.md section 11.22: one idle connection blocked OpenBao's port."""
    # They outlast the peer's patience: a listener that waits for one of them never gets to it.
    async with open_listener(HATiming(handshake_s=600)) as listener:
        for number in range(200):
            stream = await listener.connect()
            if number % 2:
                # The first bytes of a TLS record that never goes on.
                await stream.send_all(b"\x16\x03\x01\x02\x00\x01")
        with trio.fail_after(60):
            async with listener.link() as (link, handler):
                await wait_up(link, handler)
                assert (await link.forward(request())).status == 200


async def test_idle_connection_is_closed_after_the_handshake_deadline() -> None:
    async with open_listener(HATiming(handshake_s=0.2)) as listener:
        stream = await listener.connect()
        with trio.fail_after(5):
            assert await stream.receive_some(1) == b""
        await listener.wait_problem("handshake timed out after 0.8 s")
        await stream.aclose()


async def test_handshake_done_but_no_hello_is_closed_after_the_deadline() -> None:
    async with open_listener(HATiming(handshake_s=0.3)) as listener:
        stream = trio.SSLStream(
            await listener.connect(),
            client_context(IDENTITY),
            server_hostname=IDENTITY.name,
        )
        await stream.do_handshake()
        with trio.fail_after(5), pytest.raises(trio.BrokenResourceError):
            await stream.receive_some(1)
        await listener.wait_problem("handshake timed out")


async def test_too_many_pending_connections_the_oldest_has_to_go() -> None:
    async with open_listener(limits=ChannelLimits(pending_max=3)) as listener:
        streams = [await listener.connect() for _ in range(4)]
        await listener.wait_problem("too many connections")
        with trio.fail_after(5):
            assert await streams[0].receive_some(1) == b""
        assert len(listener.problems) == 1
        async with listener.link() as (link, handler):
            await wait_up(link, handler)


async def test_sessions_of_one_node_are_bounded_and_the_most_silent_goes() -> None:
    """Goal: a standby that dials anew gets in, whatever became of its former connections."""
    async with open_listener(limits=ChannelLimits(node_sessions_max=2)) as listener:
        async with AsyncExitStack() as stack:
            links = []
            for _ in range(3):
                links.append(await stack.enter_async_context(listener.link()))
                await wait_up(*links[-1])
                await trio.sleep(0.05)
            await listener.wait_problem("closed: the node has too many sessions")
            await wait_until(lambda: len(listener.active.peers) == 2)


async def test_sessions_in_all_are_bounded_and_who_is_heard_stays() -> None:
    """Goal: whoever makes up names pushes no standby out; who is gone makes room."""
    async with open_listener(limits=ChannelLimits(sessions_max=2)) as listener:
        async with AsyncExitStack() as stack:
            for name in ("a", "b"):
                await wait_up(*await stack.enter_async_context(listener.link(name=name)))
            async with listener.link(name="c"):
                await listener.wait_problem("refused: there are too many sessions")
            names = sorted(peer.info.node_id for peer in listener.active.peers)
            assert names == ["a", "b"]
        await wait_until(lambda: not listener.active.peers)
        async with listener.link(name="c") as (link, handler):
            await wait_up(link, handler)


@pytest.mark.parametrize("junk", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x00" * 100, b"\xff\x16"])
async def test_peer_that_speaks_no_tls_is_refused_with_one_line(
    junk: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "baoha.cluster")
    async with open_listener() as listener:
        stream = await listener.connect()
        await stream.send_all(junk)
        await stream.send_eof()
        await wait_until(lambda: bool(listener.problems))
        await stream.aclose()
        assert len(listener.problems) == 1
    assert caplog.text.count("cluster connection refused or broken") == 1
    assert f"peer={HOST}:" in caplog.text


async def test_plain_http_is_named_in_the_problem() -> None:
    async with open_listener() as listener:
        stream = await listener.connect()
        await stream.send_all(b"GET /v1/sys/health HTTP/1.1\r\n\r\n")
        await listener.wait_problem("the peer speaks plain HTTP")
        await stream.aclose()


async def refused(listener: Listener, context: ssl.SSLContext, name: str) -> None:
    """Connect with a context of one's own; the listener must end it before any frame."""
    stream = trio.SSLStream(await listener.connect(), context, server_hostname=name)
    with trio.fail_after(5), pytest.raises(trio.BrokenResourceError):
        # With TLS 1.3 only the first receive tells.
        await stream.do_handshake()
        await stream.receive_some(1)
        raise AssertionError("the listener talked to a stranger")
    await wait_until(lambda: len(listener.problems) == 1)
    assert listener.active.peers == []


def trusting(version: ssl.TLSVersion) -> ssl.SSLContext:
    """Return a client context that trusts the listener but has no certificate of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=IDENTITY.certificate_der)
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols([CLUSTER_ALPN])
    return context


BOTH = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("version", BOTH)
async def test_peer_without_certificate_is_refused(version: ssl.TLSVersion) -> None:
    async with open_listener() as listener:
        await refused(listener, trusting(version), IDENTITY.name)
        assert "the peer shows no certificate" in listener.problems[0]


def signed_by(issuer: TenureIdentity | None, name: str, tmp_path: Path) -> Path:
    """Write a certificate of that name, signed by the tenure's key or by its own."""
    key = ec.generate_private_key(ec.SECP521R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, IDENTITY.name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer_name if issuer else subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + timedelta(days=3650))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(issuer.private_key if issuer else key, hashes.SHA512())
    )
    path = tmp_path / "peer.pem"
    path.write_bytes(
        certificate.public_bytes(Encoding.PEM)
        + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return path


@pytest.mark.parametrize("version", BOTH)
@pytest.mark.parametrize("signed", [False, True], ids=["same name", "signed by the tenure"])
async def test_peer_with_another_key_is_refused(
    version: ssl.TLSVersion, signed: bool, tmp_path: Path
) -> None:
    name = "fw-impostor" if signed else IDENTITY.name
    async with open_listener() as listener:
        context = trusting(version)
        context.load_cert_chain(signed_by(IDENTITY if signed else None, name, tmp_path))
        await refused(listener, context, IDENTITY.name)
        assert "certificate is not the advertised one" in listener.problems[0]


@pytest.mark.parametrize("version", BOTH)
@pytest.mark.parametrize("protocols", [["h2"], ["req_fw_sb-act_v1", "h2"], []])
async def test_peer_with_another_alpn_is_refused(
    version: ssl.TLSVersion, protocols: list[str]
) -> None:
    async with open_listener() as listener:
        context = client_context(IDENTITY)
        context.set_alpn_protocols(protocols)
        context.minimum_version = context.maximum_version = version
        await refused(listener, context, IDENTITY.name)
        assert "does not speak baoha-cluster/1" in listener.problems[0]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
async def test_peer_with_tls_1_1_is_refused() -> None:
    async with open_listener() as listener:
        context = client_context(IDENTITY)
        context.minimum_version = ssl.TLSVersion.TLSv1_1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
        await refused(listener, context, IDENTITY.name)
        assert "no TLS version of 1.2 or newer" in listener.problems[0]


async def test_tls_1_2_peer_with_the_tenures_certificate_is_let_in() -> None:
    async with open_listener(HATiming(handshake_s=0.3)) as listener:
        context = client_context(IDENTITY)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        stream = trio.SSLStream(
            await listener.connect(),
            context,
            server_hostname=IDENTITY.name,
        )
        await stream.do_handshake()
        assert stream.selected_alpn_protocol() == CLUSTER_ALPN
        await stream.send_all(b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n")
        await listener.wait_problem("connection")


async def test_websocket_for_another_resource_is_refused() -> None:
    async with open_listener() as listener:
        stream = trio.SSLStream(
            await listener.connect(),
            client_context(IDENTITY),
            server_hostname=IDENTITY.name,
        )
        await stream.send_all(
            b"GET /other HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        with trio.fail_after(5):
            assert b"404" in await stream.receive_some()
        await listener.wait_problem("not the cluster channel")


# --- the standby's side: it refuses a wrong active node -------------------------------------------


async def test_link_meets_another_certificate_fails_and_says_so() -> None:
    other = create_tenure_identity(NOW)
    async with open_listener() as listener, listener.link(other) as (link, handler):
        assert await wait_failed(link, handler) == "certificate is not the advertised one"


@asynccontextmanager
async def serving(answer: bytes | None, context: ssl.SSLContext | None) -> AsyncIterator[int]:
    """Serve something that is no cluster listener; ``answer`` None: nothing is ever said."""

    async def handle(stream: trio.SocketStream) -> None:
        if context is not None:
            secure = trio.SSLStream(stream, context, server_side=True)
            with suppress(trio.BrokenResourceError):
                await secure.do_handshake()
                await secure.receive_some()
        elif answer is None:
            await trio.sleep_forever()
        else:
            await stream.receive_some()
            await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        (socket_listener,) = await nursery.start(partial(trio.serve_tcp, handle, 0, host=HOST))
        yield socket_listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def test_link_meets_an_http_port_fails_and_says_so() -> None:
    async with serving(b"HTTP/1.1 400 Bad Request\r\n\r\n", None) as port:
        async with open_link(port) as (link, handler):
            assert await wait_failed(link, handler) == "not TLS: is this an HTTP port?"


async def test_link_meets_a_silent_port_times_out_and_says_so() -> None:
    async with serving(None, None) as port:
        async with open_link(port, timing=HATiming(handshake_s=0.2)) as (link, handler):
            assert "handshake timed out after" in await wait_failed(link, handler)


async def test_link_meets_a_port_that_closes_fails_and_says_so() -> None:
    async with serving(b"", None) as port, open_link(port) as (link, handler):
        assert "closed the connection" in await wait_failed(link, handler)


async def test_link_meets_another_protocol_with_the_right_certificate_is_refused() -> None:
    context = server_context(IDENTITY)
    context.set_alpn_protocols(["h2"])
    async with serving(b"", context) as port, open_link(port) as (link, handler):
        assert "does not speak baoha-cluster/1" in await wait_failed(link, handler)


async def test_link_meets_a_closed_port_refused_is_kept_apart() -> None:
    with trio.socket.socket() as unused:
        await unused.bind((HOST, 0))
        port = unused.getsockname()[1]
        async with open_link(port) as (link, handler):
            assert await wait_failed(link, handler) == "connection refused"
            assert link.refused_at is not None
