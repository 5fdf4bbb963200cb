"""Watching: one line or record per change where nobody looks, a repainted table on a terminal."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.support.cli_lab import (
    Reply,
    Script,
    ScriptedServer,
    Seen,
    active_node,
    nodes,
    standby_node,
)

ARGV = [sys.executable, "-m", "baoha_cli"]
WAIT_S = 20.0


class Changing:
    """
    A node whose script can be exchanged; ``rounds`` waits until it was asked again and again.

    A look begins with the seal status. A script holds for whole looks, so that no look sees a half.
    """

    def __init__(self, script: Script) -> None:
        self._script = self._next = script
        self._asked = threading.Condition()
        self._count = 0

    def __call__(self, request: Seen) -> Reply:
        with self._asked:
            if request.path == "/v1/sys/seal-status":
                self._script = self._next
                self._count += 1
                self._asked.notify_all()
            return self._script(request)

    def become(self, script: Script) -> None:
        """Answer differently from the next look on."""
        with self._asked:
            self._next = script

    def rounds(self, count: int) -> None:
        """Return when so many more looks have begun."""
        with self._asked:
            wanted = self._count + count
            assert self._asked.wait_for(lambda: self._count >= wanted, timeout=WAIT_S)


@dataclass
class Watching:
    """A running command and the pair of nodes that it looks at."""

    process: subprocess.Popen[bytes]
    leader: Changing
    follower: Changing
    master: int = -1

    def interrupt(self) -> bytes:
        """Press Ctrl-C and return what else it had printed on stdout."""
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=WAIT_S)
        assert b"Traceback" not in (err or b"")
        return out or b""


@contextmanager
def watching(*argv: str, terminal: bool = False) -> Iterator[Watching]:
    """Run a watching command against an active node and a standby."""
    leader, follower = Changing(active_node()), Changing(standby_node())
    with nodes(leader, follower) as (one, two):
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "TERM": "xterm",
            "BAO_ADDR": addresses(one, two),
        }
        master, slave = pty.openpty() if terminal else (-1, -1)
        process = subprocess.Popen(
            [*ARGV, *argv],
            stdout=slave if terminal else subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environ,
        )
        if terminal:
            os.close(slave)
        try:
            yield Watching(process, leader, follower, master)
        finally:
            process.kill()
            process.communicate()
            if terminal:
                os.close(master)


def addresses(*opened: ScriptedServer) -> str:
    return ",".join(node.url for node in opened)


def line_of(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


WATCHES = [
    ("status", "-w", "50ms"),
    ("cluster", "watch", "--interval", "50ms"),
]


@pytest.mark.parametrize("argv", WATCHES, ids=" ".join)
def test_ndjson_has_one_record_per_change_and_none_between(argv: tuple[str, ...]) -> None:
    with watching(*argv, "-o", "ndjson") as watch:
        first = json.loads(line_of(watch.process))
        watch.leader.rounds(4)  # nothing changes: nothing is printed
        watch.follower.become(standby_node(forwards=False))
        second = json.loads(line_of(watch.process))
        watch.leader.rounds(3)
        rest = watch.interrupt()
    assert rest == b""
    assert watch.process.returncode == 130
    links = [[node["standby_link"] for node in record["nodes"]] for record in (first, second)]
    assert links == [["self", "forward"], ["self", "redirect"]]
    assert first["at"] < second["at"]
    assert first["schema"] == "baoha.status/v1"
    assert [finding["code"] for finding in second["findings"]] == ["BH-401"]


@pytest.mark.parametrize("argv", WATCHES, ids=" ".join)
def test_off_a_terminal_there_is_one_plain_line_per_change(argv: tuple[str, ...]) -> None:
    with watching(*argv) as watch:
        first = line_of(watch.process).decode()
        watch.leader.rounds(3)
        watch.follower.become(standby_node({"ha_enabled": True, "is_self": False}))
        second = line_of(watch.process).decode()
        rest = watch.interrupt()
    assert rest == b""
    assert first.rstrip().endswith("OK")
    assert second.rstrip().endswith("DEGRADED")
    assert "\x1b" not in first + second


def test_on_a_terminal_the_table_is_repainted_each_time() -> None:
    with watching("status", "-w", "50ms", terminal=True) as watch:
        seen = b""
        while seen.count(b"\x1b[H") < 3:  # also without any change: it shows that it is alive
            seen += os.read(watch.master, 65536)
        watch.follower.become(standby_node(forwards=False))
        while b"redirect" not in seen:
            seen += os.read(watch.master, 65536)
        watch.process.send_signal(signal.SIGINT)
        assert watch.process.wait(WAIT_S) == 130
    first = seen.split(b"\x1b[H")[1]
    assert b"NODE" in first
    assert b"STATE" in first
    assert b"forward" in first


def test_on_a_terminal_a_document_is_not_repainted() -> None:
    with watching("status", "-w", "50ms", "-o", "ndjson", terminal=True) as watch:
        record = b""
        while b"\n" not in record:
            record += os.read(watch.master, 65536)
        watch.process.send_signal(signal.SIGINT)
        assert watch.process.wait(WAIT_S) == 130
    assert b"\x1b[H" not in record
    json.loads(record)


def test_expectation_ends_the_watch_when_it_no_longer_holds() -> None:
    with watching("status", "-w", "50ms", "--expect", "forwarding") as watch:
        line_of(watch.process)
        watch.leader.rounds(2)
        watch.follower.become(standby_node(forwards=False))
        _, err = watch.process.communicate(timeout=WAIT_S)
    assert watch.process.returncode == 3
    assert b"expected forwarding" in err


def test_deadline_ends_the_watch_as_a_timeout() -> None:
    with watching("cluster", "watch", "--deadline", "400ms", "--interval", "50ms") as watch:
        assert watch.process.wait(WAIT_S) == 8


def test_reader_that_goes_away_ends_the_watch_quietly() -> None:
    with watching("cluster", "watch", "--interval", "50ms", "-o", "ndjson") as watch:
        line_of(watch.process)
        assert watch.process.stdout is not None
        watch.process.stdout.close()
        watch.follower.become(standby_node(forwards=False))
        assert watch.process.wait(WAIT_S) == 141
        assert watch.process.stderr is not None
        assert watch.process.stderr.read() == b""
