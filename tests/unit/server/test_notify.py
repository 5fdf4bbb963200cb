"""What the supervisor is told."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from baoha.server.notify import Notifier


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.setblocking(False)
        yield sock


def read(sock: socket.socket) -> list[str]:
    return sock.recv(4096).decode().split("\n")


def test_notifier_ready_and_stopping_are_sent(supervisor: socket.socket) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": supervisor.getsockname()})
    notifier.ready("standby of https://a:8200")
    assert read(supervisor) == ["READY=1", "STATUS=standby of https://a:8200"]
    notifier.stopping("handing over")
    assert read(supervisor) == ["STOPPING=1", "STATUS=handing over"]
    notifier.extend_timeout(1.5)
    assert read(supervisor) == ["EXTEND_TIMEOUT_USEC=1500000"]


def test_notifier_reload_carries_monotonic_time(supervisor: socket.socket) -> None:
    Notifier({"NOTIFY_SOCKET": supervisor.getsockname()}).reloading()
    first, second = read(supervisor)
    assert first == "RELOADING=1"
    assert int(second.removeprefix("MONOTONIC_USEC=")) > 0


def test_notifier_status_with_line_feed_stays_one_variable(supervisor: socket.socket) -> None:
    Notifier({"NOTIFY_SOCKET": supervisor.getsockname()}).status("a\nREADY=1")
    assert read(supervisor) == ["STATUS=a READY=1"]


def test_notifier_abstract_socket_is_reached() -> None:
    name = f"baoha-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name}")
        sock.settimeout(5)
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).ready("x")
        assert read(sock)[0] == "READY=1"


def test_notifier_without_supervisor_is_silent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Notifier({}).ready("x")
    assert not caplog.records
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    notifier.ready("x")
    notifier.ready("x")
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"WATCHDOG_USEC": "2000000"}, 2.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid())}, 2.0),
        ({"WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_watchdog_interval_is_for_this_process(
    environ: dict[str, str], expected: float | None
) -> None:
    assert Notifier(environ).watchdog_interval_s == expected


async def test_watchdog_is_fed_twice_an_interval(
    supervisor: socket.socket, autojump_clock: MockClock
) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": supervisor.getsockname(), "WATCHDOG_USEC": "2000000"})
    with trio.move_on_after(3.5):
        await notifier.run_watchdog()
    fed = 0
    while fed < 4:
        assert read(supervisor) == ["WATCHDOG=1"]
        fed += 1
    with pytest.raises(BlockingIOError):
        read(supervisor)
