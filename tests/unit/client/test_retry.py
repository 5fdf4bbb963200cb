"""Trying again: only when nothing was sent, and never where it would hide a fault."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.cli_lab import CommandLine, ScriptedServer, active_node, free_port

WRITE = ("write", "cubbyhole/x", "a=b")


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> CommandLine:
    line = CommandLine(monkeypatch, capfdbinary, str(tmp_path))
    monkeypatch.delenv("BAO_MAX_RETRIES")
    return line


@contextmanager
def connections_that_are_dropped() -> Iterator[tuple[str, list[bytes]]]:
    """A server that reads a request and hangs up; yields its address and what it read."""
    seen: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                seen.append(connection.recv(65536))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", seen
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def tries(ran_err: str) -> int:
    """Return how often a command said that it tries again."""
    return ran_err.count(": trying again")


@pytest.mark.parametrize(
    ("argv", "again"),
    [
        (WRITE, 2),
        (("kv", "get", "secret/x"), 2),
        (("policy", "list"), 2),
        (("operator", "members"), 2),
        (("operator", "seal"), 2),
        (("status",), 0),
        ((*WRITE, "--retry=1"), 1),
        ((*WRITE, "--retry=0"), 0),
        (("status", "--retry=1"), 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_dead_server_is_tried_as_often_as_the_command_says(
    cli: CommandLine, argv: tuple[str, ...], again: int
) -> None:
    ran = cli(*argv, "-v", f"-address=http://127.0.0.1:{free_port()}")
    assert ran.code in (1, 2)
    assert tries(ran.err) == again
    assert "connection refused" in ran.err


@pytest.mark.parametrize("argv", [("status",), ("leader",), ("cluster", "members")], ids=" ".join)
def test_variable_does_not_make_status_hide_a_fault(
    cli: CommandLine, argv: tuple[str, ...]
) -> None:
    cli.setenv("BAO_MAX_RETRIES", "5")
    assert tries(cli(*argv, "-v", f"-address=http://127.0.0.1:{free_port()}").err) == 0


def test_variable_says_how_often_unless_the_flag_does(cli: CommandLine) -> None:
    address = f"-address=http://127.0.0.1:{free_port()}"
    cli.setenv("VAULT_MAX_RETRIES", "1")
    assert tries(cli(*WRITE, "-v", address).err) == 1
    cli.setenv("BAO_MAX_RETRIES", "0")
    assert tries(cli(*WRITE, "-v", address).err) == 0
    assert tries(cli(*WRITE, "-v", address, "--retry=1").err) == 1


@pytest.mark.parametrize("value", ["x", "-1", "1.5", "99999", "٣"])
def test_variable_that_is_no_number_is_a_usage_error(cli: CommandLine, value: str) -> None:
    cli.setenv("BAO_MAX_RETRIES", value)
    ran = cli(*WRITE, "-address=http://127.0.0.1:1")
    assert ran.code == 64
    assert "BAO_MAX_RETRIES" in ran.err


@pytest.mark.parametrize("argv", [WRITE, ("read", "cubbyhole/x"), ("operator", "step-down")])
def test_request_that_may_have_been_executed_is_never_sent_again(
    cli: CommandLine, argv: tuple[str, ...]
) -> None:
    with connections_that_are_dropped() as (url, seen):
        ran = cli(*argv, "--retry=5", f"-address={url}")
    assert ran.code == 2
    assert len([request for request in seen if request]) == 1


def test_answer_with_an_error_is_an_answer(cli: CommandLine) -> None:
    with ScriptedServer(active_node(cubbyhole__x=(503, {"errors": ["no leader"]}))) as node:
        ran = cli(*WRITE, "--retry=5", f"-address={node.url}")
    assert ran.code == 2
    assert len(node.seen) == 1


def test_server_that_comes_back_is_found(cli: CommandLine) -> None:
    port = free_port()
    answer = b"HTTP/1.1 204 No Content\r\n\r\n"

    def come_back() -> None:
        time.sleep(0.3)  # two tries find nobody
        with socket.create_server(("127.0.0.1", port)) as listener:
            listener.settimeout(20)
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

    server = threading.Thread(target=come_back, daemon=True)
    server.start()
    ran = cli(*WRITE, "--retry=20", f"-address=http://127.0.0.1:{port}")
    server.join(20)
    assert (ran.code, ran.out) == (0, "Success! Data written to: cubbyhole/x\n")


def test_wrong_certificate_stays_wrong(cli: CommandLine) -> None:
    with ScriptedServer(active_node()) as node:
        url = node.url.replace("http:", "https:")
        ran = cli(*WRITE, "-v", "--retry=5", f"-address={url}")
    assert ran.code == 2
    assert tries(ran.err) == 0
