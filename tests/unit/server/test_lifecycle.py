"""
One server process with a node that is a fake: rings, signals, exit codes, what is printed.

The signals are real and sent to this process, which handles them while ``ServerProcess`` runs.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from baoha.asgi import ASGIApp, Receive, Scope, Send
from baoha.config.load import load
from baoha.config.model import ServerConfig
from baoha.core.view import Leader, NodeStatus, Role
from baoha.errors import ConfigError, SealError, StorageUnavailable
from baoha.server.lifecycle import (
    Parts,
    ProcessEnvironment,
    RunnableNode,
    ServerProcess,
    describe_status,
)
from baoha.server.logs import Logs
from baoha.server.notify import Notifier
from baoha.server.stores import Stores, open_stores
from baoha.server.watchdog import LIMIT_S

STATUS = NodeStatus(
    revision=1,
    node_id="n",
    initialized=True,
    sealed=False,
    role=Role.STANDBY,
    ha_enabled=True,
    leader=Leader(uuid="u", redirect_addr="https://a:8200", cluster_addr=""),
)


class FakeRunnableNode:
    """Runs until cancelled, as a node does; records what happens to it."""

    def __init__(self, events: list[str], *, failure: Exception | None = None) -> None:
        self.events = events
        self.failure = failure
        self.fail = trio.Event()
        self.leave_forever = False
        self.problems: dict[str, str] = {}
        self.has_problem = trio.Event()

    def note_problem(self, subject: str, sentence: str) -> None:
        self.problems[subject] = sentence
        self.has_problem.set()

    def status(self) -> NodeStatus:
        return STATUS

    async def wait_change(self, seen: NodeStatus) -> None:
        await trio.sleep_forever()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        self.events.append("node runs")
        try:
            await self.fail.wait()
            assert self.failure is not None
            raise self.failure
        finally:
            self.events.append("node ended")

    async def leave(self) -> None:
        self.events.append("node leaves")
        if self.leave_forever:
            await trio.sleep_forever()


class World:
    """One server process under test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events: list[str] = []
        self.said: list[str] = []
        self.complained: list[str] = []
        self.node = FakeRunnableNode(self.events)
        self.config_file = folder / "a.toml"
        self.write_config()
        self.logs = Logs(level="info", format="standard", file=str(folder / "log"))
        self.supervisor = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.supervisor.bind(str(folder / "notify"))
        self.supervisor.setblocking(False)
        self.process: ServerProcess | None = None

    def write_config(self, *, top: str = "", listener: str = "tls_disable = true") -> None:
        self.config_file.write_text(
            'api_addr = "http://127.0.0.1:8200"\ncluster_addr = "https://127.0.0.1:8201"\n'
            f'{top}\n[ha]\nhandover_wait = "200ms"\ndrain = "200ms"\ncleanup = "200ms"\n'
            '[storage.inmem]\n[[listener.tcp]]\naddress = "127.0.0.1:0"\n'
            f'cluster_address = "127.0.0.1:8201"\n{listener}\n'
        )

    def load(self) -> ServerConfig:
        return load([self.config_file], {})

    def make(self, config: ServerConfig | None = None, **environment: Any) -> ServerProcess:
        @asynccontextmanager
        async def stores(config: ServerConfig) -> AsyncIterator[Stores]:
            async with open_stores(config) as opened:
                try:
                    yield opened
                finally:
                    self.events.append("stores closed")

        def make_node(config: ServerConfig, stores: Stores) -> RunnableNode:
            return self.node

        return ServerProcess(
            config or self.load(),
            Parts(open_stores=stores, make_node=make_node, make_app=self.make_app),
            ProcessEnvironment(
                logs=self.logs,
                notifier=Notifier({"NOTIFY_SOCKET": self.supervisor.getsockname()}),
                say=self.said.append,
                complain=self.complained.append,
                **{"load_again": self.load, **environment},
            ),
        )

    def make_app(self, node: RunnableNode, park_s: float) -> tuple[ASGIApp, None]:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            self.events.append("answered")
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})

        return app, None

    async def read_notification(self) -> list[str]:
        with trio.fail_after(5):
            while True:
                try:
                    return self.supervisor.recv(4096).decode().split("\n")
                except BlockingIOError:
                    await trio.lowlevel.wait_readable(self.supervisor)

    async def wait_notification(self, line: str) -> list[str]:
        while True:
            lines = await self.read_notification()
            if line in lines:
                return lines

    async def answer(self) -> bytes:
        """Return the head of the answer to a request."""
        async with await trio.open_tcp_stream("127.0.0.1", self.port) as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            head = b""
            with trio.fail_after(5):
                while b"\r\n\r\n" not in head:
                    received = await stream.receive_some()
                    assert received, head
                    head += received
            return head

    def log(self) -> str:
        self.logs.close()
        return (self.folder / "log").read_text()

    @property
    def port(self) -> int:
        """The port of the first listener, from the banner."""
        line = next(line for line in self.said[0].splitlines() if "Listener 1" in line)
        return int(line.partition('addr: "127.0.0.1:')[2].partition('"')[0])


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.logs.close()
    made.supervisor.close()


async def run(process: ServerProcess, codes: list[int]) -> None:
    codes.append(await process.run())


async def test_process_sigterm_hands_over_then_stops_in_order(world: World) -> None:
    codes: list[int] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, world.make(), codes)
        assert "STATUS=standby of https://a:8200" in await world.wait_notification("READY=1")
        assert world.said[1].startswith("==> baoha server started!")
        async with await trio.open_tcp_stream("127.0.0.1", world.port) as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await stream.receive_some(100)).startswith(b"HTTP/1.1 204 No Content\r\n")
        os.kill(os.getpid(), signal.SIGTERM)
        await world.wait_notification("STOPPING=1")
    assert codes == [0]
    assert world.said[-1] == "==> baoha shutdown triggered"
    assert world.events == ["node runs", "answered", "node leaves", "node ended", "stores closed"]


async def test_process_event_loop_that_stood_still_is_a_problem_of_the_node(world: World) -> None:
    codes: list[int] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, world.make(), codes)
        await world.wait_notification("READY=1")
        threading.Event().wait(3 * LIMIT_S)
        with trio.fail_after(10):
            await world.node.has_problem.wait()
        os.kill(os.getpid(), signal.SIGTERM)

    assert world.node.problems["event loop"].startswith("loop: 1 turn of the event loop above ")
    assert "the event loop stands still" in world.log()


async def test_process_hand_over_that_hangs_is_given_up(world: World) -> None:
    world.node.leave_forever = True
    codes: list[int] = []
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, world.make(), codes)
            await world.wait_notification("READY=1")
            os.kill(os.getpid(), signal.SIGINT)
    assert codes == [0]
    assert "hand-over took too long" in world.log()


async def end_by(world: World, error: Exception) -> None:
    """Let the node of a running process fail, and wait for the process to end."""
    world.node.failure = error
    codes: list[int] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, world.make(), codes)
        await world.wait_notification("READY=1")
        world.node.fail.set()
    assert codes == [1]


async def test_process_node_fails_listeners_close_and_exit_code_is_one(world: World) -> None:
    await end_by(world, StorageUnavailable("the disk is gone"))
    assert world.events[-1] == "stores closed"
    assert "[ERROR] server: the server ends: cause=StorageUnavailable: the disk is gone" in (
        world.log()
    )
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream("127.0.0.1", world.port)


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("the store was initialised with the seal type 'static'"),
        SealError("the static seal key 'a' does not open this store"),
    ],
)
async def test_process_wrong_seal_says_so_without_a_traceback(
    world: World, error: Exception
) -> None:
    await end_by(world, error)
    assert world.complained == [f"Error starting baoha: {error}"]
    assert f"the server ends: cause={error}\n" in world.log()
    assert "File " not in world.log()


async def test_process_foreign_error_is_logged_without_its_text(world: World) -> None:
    secret = "hunter" + "2"
    await end_by(world, KeyError(secret))
    text = world.log()
    assert "cause=KeyError" in text
    assert secret not in text


async def test_process_address_in_use_says_so_and_exits(world: World) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        config = world.load()
        listener = replace(config.listeners[0], port=other.getsockname()[1])
        code = await world.make(replace(config, listeners=(listener,))).run()
    assert code == 1
    assert len(world.complained) == 1
    assert "Address already in use" in world.complained[0]
    assert world.said == []
    assert world.events == ["stores closed"]


async def test_process_store_that_does_not_open_says_so_and_exits(world: World) -> None:
    config = world.load()
    broken = replace(config, storage=replace(config.storage, type="nosuchstore"))
    assert await world.make(broken).run() == 1
    assert "nosuchstore" in world.complained[0]


async def test_process_pid_file_lives_as_long_as_the_process(world: World) -> None:
    pid_file = world.folder / "pid"
    pid_file.touch()
    pid_file.chmod(0o666)
    world.write_config(top=f'pid_file = "{pid_file}"')
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.make().run)
        await world.wait_notification("READY=1")
        assert pid_file.read_text() == f"{os.getpid()}\n"
        assert pid_file.stat().st_mode & 0o777 == 0o644
        os.kill(os.getpid(), signal.SIGTERM)
    assert not pid_file.exists()


async def test_process_parent_ends_process_ends(world: World) -> None:
    reading, writing = os.pipe()
    codes: list[int] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, world.make(exit_with_parent=reading), codes)
        await world.wait_notification("READY=1")
        os.close(writing)
    assert codes == [0]
    assert "node leaves" in world.events


async def test_process_sighup_reloads_level_certificate_and_headers(world: World) -> None:
    ca = trustme.CA()
    names = ("cert.pem", "key.pem")

    def write_certificate() -> None:
        issued = ca.issue_cert("127.0.0.1")
        (world.folder / names[0]).write_bytes(issued.cert_chain_pems[0].bytes())
        (world.folder / names[1]).write_bytes(issued.private_key_pem.bytes())

    write_certificate()
    tls = (
        f'tls_cert_file = "{world.folder / names[0]}"\ntls_key_file = "{world.folder / names[1]}"\n'
    )
    world.write_config(listener=tls)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.make().run)
        await world.wait_notification("READY=1")
        write_certificate()
        world.write_config(top='log_level = "debug"\ncluster_name = "other"', listener=tls)
        os.kill(os.getpid(), signal.SIGHUP)
        lines = await world.wait_notification("RELOADING=1")
        assert lines[1].startswith("MONOTONIC_USEC=")
        await world.wait_notification("READY=1")
        assert logging.getLogger("baoha").level == logging.DEBUG
        os.kill(os.getpid(), signal.SIGTERM)
    text = world.log()
    assert "reloaded: log_level=debug" in text
    assert "certificate reloaded: file=" in text
    assert "takes effect with the next start: key=cluster_name" in text
    assert text.count("takes effect with the next start") == 1
    assert "==> baoha reload triggered" in world.said


async def test_process_sighup_bad_file_changes_nothing(world: World) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.make().run)
        await world.wait_notification("READY=1")
        world.config_file.write_text("this is no configuration")
        os.kill(os.getpid(), signal.SIGHUP)
        await world.wait_notification("RELOADING=1")
        await world.wait_notification("READY=1")
        os.kill(os.getpid(), signal.SIGTERM)
    assert "configuration not reloaded, the old one stays" in world.log()
    assert "configuration reloaded" not in world.log()


async def test_process_sighup_bad_file_keeps_what_an_earlier_reload_has_changed(
    world: World,
) -> None:
    """Goal: the configuration of the start does not come back by a later mistake."""
    process = world.make()

    async def reload() -> None:
        os.kill(os.getpid(), signal.SIGHUP)
        await world.wait_notification("RELOADING=1")
        await world.wait_notification("READY=1")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(process.run)
        await world.wait_notification("READY=1")
        world.write_config(
            listener='tls_disable = true\ncustom_response_headers = {default = {"X-A" = ["1"]}}'
        )
        await reload()
        world.config_file.write_text("this is no configuration")
        await reload()
        assert b"\r\nx-a: 1\r\n" in (await world.answer()).lower()
        os.kill(os.getpid(), signal.SIGTERM)


async def test_process_sighup_files_that_nobody_can_read_now_do_not_hold_up_the_end(
    world: World,
) -> None:
    """Goal: the event loop does not wait for a file (here a FIFO into which nobody writes)."""
    is_over = threading.Event()
    ended_by_itself: list[bool] = []

    def give_up_waiting() -> None:
        ended_by_itself.append(is_over.wait(10))
        os.close(os.open(world.config_file, os.O_RDWR))  # the reader gets an end of file
        has_read.wait(10)

    has_read = threading.Event()

    def load_again() -> ServerConfig:
        try:
            return world.load()
        finally:
            has_read.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.make(load_again=load_again).run)
        await world.wait_notification("READY=1")
        world.config_file.unlink()
        os.mkfifo(world.config_file)
        rescue = threading.Thread(target=give_up_waiting)
        rescue.start()
        os.kill(os.getpid(), signal.SIGHUP)
        await world.wait_notification("RELOADING=1")
        os.kill(os.getpid(), signal.SIGTERM)
    is_over.set()
    await trio.to_thread.run_sync(rescue.join)
    assert ended_by_itself == [True]
    assert "node leaves" in world.events


async def test_process_sigusr2_dumps_tasks_and_threads(world: World) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.make().run)
        await world.wait_notification("READY=1")
        os.kill(os.getpid(), signal.SIGUSR2)
        os.kill(os.getpid(), signal.SIGTERM)
    text = world.log()
    assert "FakeRunnableNode.run" in text
    assert "MainThread" in text


async def test_process_development_hook_fails_process_ends(world: World) -> None:
    @asynccontextmanager
    async def when_started(addresses: list[str]) -> AsyncIterator[None]:
        raise ConfigError("cannot prepare")
        yield

    assert await world.make(when_started=when_started).run() == 1
    assert "cannot prepare" in world.log()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "standby of https://a:8200"),
        ({"leader": None}, "standby, no active node known"),
        ({"leader_changing": True}, "standby, no active node known"),
        ({"role": Role.ACTIVE}, "active"),
        ({"sealed": True, "role": Role.SEALED}, "sealed"),
        ({"initialized": False, "sealed": True}, "not initialized"),
        ({"store_problem": "silent"}, "storage problem: silent"),
    ],
)
def test_status_line_says_what_the_node_is(changes: dict[str, Any], expected: str) -> None:
    assert describe_status(replace(STATUS, **changes)) == expected
