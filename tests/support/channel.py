"""
Fakes and a rig for tests of the cluster channel: both ends, with handlers that record.

Source: ours.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import trio

from baoha.cluster.active_listener import serve_cluster
from baoha.cluster.active_session import ActiveSession
from baoha.cluster.certificates import TenureIdentity, create_tenure_identity
from baoha.cluster.channel import ConnectedStandby, LeaderNotice, NodeInfo, PrepareReply
from baoha.cluster.network import Network
from baoha.cluster.standby_link import StandbyLink
from baoha.cluster.transport import Transport
from baoha.core.view import LinkState
from baoha.sansio.advertisement import Advertisement
from baoha.sansio.wire.frames import ChannelLimits
from baoha.sansio.wire.messages import HTTPRequest, HTTPResponse
from baoha.timing import HATiming
from tests.support.memory_network import MemoryHub

ACTIVE_PORT = 8201

# One key for all tests that do not care: P-521 keys are slow to make.
IDENTITY = create_tenure_identity(datetime(2026, 11, 23, tzinfo=UTC))


def node_info(node_id: str = "standby") -> NodeInfo:
    return NodeInfo(
        node_id=node_id,
        hostname=node_id,
        api_addr=f"http://{node_id}:8200",
        cluster_addr=f"https://{node_id}:8201",
        version="2.7.2",
        software="baoha 0.1.0",
        ready=True,
    )


def advertise(
    identity: TenureIdentity = IDENTITY, host: str = "active", port: int = ACTIVE_PORT
) -> Advertisement:
    return Advertisement(
        redirect_addr=f"http://{host}:8200",
        cluster_addr=f"https://{host}:{port}",
        cluster_cert=identity.certificate_der,
        key=identity.to_key_params(),
    )


def request(path: str = "/v1/secret/a", body: bytes = b"", method: str = "GET") -> HTTPRequest:
    return HTTPRequest(
        method=method,
        path=path,
        raw_path=path,
        headers=(("x-vault-token", "canary-token"),),
        body=body,
        remote_addr="192.0.2.1:999",
        client_certificates=(b"\x30\x01",),
    )


async def echo(received: HTTPRequest) -> HTTPResponse:
    """Answer with the request's path and body."""
    return HTTPResponse(
        status=200, headers=(("x-path", received.path),), body=received.body or b"empty"
    )


@dataclass
class RecordingActive:
    """Executes through ``answer`` and is told of standbys; counts its calls."""

    answer: Callable[[HTTPRequest], Awaitable[HTTPResponse]] = echo
    called: list[str] = field(default_factory=list)
    running: int = 0
    peers: list[ConnectedStandby] = field(default_factory=list)
    gone: int = 0

    async def execute(self, request: HTTPRequest) -> HTTPResponse:
        self.called.append(request.path)
        self.running += 1
        try:
            return await self.answer(request)
        finally:
            self.running -= 1

    def joined(self, peer: ConnectedStandby) -> None:
        self.peers.append(peer)

    def left(self, peer: ConnectedStandby) -> None:
        self.peers.remove(peer)
        self.gone += 1

    def pending(self, count: int) -> None:
        pass


@dataclass
class RecordingStandby:
    """A ``StandbyHandler`` that records notices and lets tests wait for link changes."""

    name: str = "standby"
    reply: PrepareReply = field(default_factory=lambda: PrepareReply(ready=True))
    notices: list[LeaderNotice] = field(default_factory=list)
    changed: trio.Event = field(default_factory=trio.Event)
    prepare_gate: trio.Event | None = None
    prepared: int = 0

    def node_info(self) -> NodeInfo:
        return node_info(self.name)

    async def prepare(self) -> PrepareReply:
        self.prepared += 1
        if self.prepare_gate is not None:
            await self.prepare_gate.wait()
        return self.reply

    def leader_notice(self, notice: LeaderNotice) -> None:
        self.notices.append(notice)
        self.link_changed()

    def link_changed(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self.changed.wait()


@dataclass
class Channel:
    """Both ends of a channel that is up."""

    hub: MemoryHub
    active: RecordingActive
    standby: RecordingStandby
    link: StandbyLink
    problems: list[tuple[str, str]]
    stop_listener: trio.CancelScope
    stop_link: trio.CancelScope
    nursery: trio.Nursery

    async def wait_state(self, *states: LinkState) -> None:
        await self.standby.wait_until(lambda: self.link.state in states)


async def send_raw(transport: Transport, message: bytes | str) -> None:
    """Send what a peer that keeps to the protocol cannot: past the outbox, which makes frames."""
    await transport._connection.send_message(message)


def call_older(standby: ActiveSession) -> None:
    """
    Have the active node take a standby for one of an older version, until its next heartbeat.

    A standby tells its own version, which all nodes of a simulated cluster share.
    """
    standby._info = replace(standby.info, version="0.0.0")


async def wait_until(condition: Callable[[], bool], pause_s: float = 0.001) -> None:
    """Wait for something that announces itself to nobody. Time limits are the caller's."""
    while not condition():  # noqa: ASYNC110 - the thing watched has no event
        await trio.sleep(pause_s)


@asynccontextmanager
async def open_channel(
    *,
    hub: MemoryHub | None = None,
    active: RecordingActive | None = None,
    standby: RecordingStandby | None = None,
    timing: HATiming | None = None,
    limits: ChannelLimits | None = None,
    active_limits: ChannelLimits | None = None,
    link_network: Network | None = None,
    wait_up: bool = True,
) -> AsyncIterator[Channel]:
    """Run a listener on host "active" and a link on host "standby", in memory."""
    hub = hub or MemoryHub()
    active = active or RecordingActive()
    timing = timing or HATiming()
    standby = standby or RecordingStandby()
    problems: list[tuple[str, str]] = []
    link = StandbyLink(
        link_network or hub.network("standby"),
        advertise(),
        standby,
        timing=timing,
        limits=limits,
        jitter=lambda: 0.5,
    )
    async with trio.open_nursery() as nursery:
        stop_listener, stop_link = trio.CancelScope(), trio.CancelScope()

        async def listen(
            task_status: trio.TaskStatus[tuple[str, int]] = trio.TASK_STATUS_IGNORED,
        ) -> None:
            with stop_listener:
                await serve_cluster(
                    hub.network("active"),
                    "active",
                    ACTIVE_PORT,
                    IDENTITY,
                    execute=active.execute,
                    standbys=active,
                    timing=timing,
                    limits=active_limits or limits,
                    on_problem=lambda address, cause: problems.append((address, cause)),
                    task_status=task_status,
                )

        async def run_link() -> None:
            with stop_link:
                await link.run()

        await nursery.start(listen)
        nursery.start_soon(run_link)
        channel = Channel(hub, active, standby, link, problems, stop_listener, stop_link, nursery)
        if wait_up:
            await channel.wait_state(LinkState.UP)
        yield channel
        nursery.cancel_scope.cancel()
    assert hub.handler_errors == []
