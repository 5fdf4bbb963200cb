"""
A scripted server for tests of the command line, and a way to run a command beside it.

`FakeNode` answers over real sockets from a thread of its own, so that `main()` can run in the
test's thread as it runs in a terminal. It records every request, headers included.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from baoha_cli.main import main

REQUEST_BYTES_MAX = 1 << 20


@dataclass
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Reply = tuple[int, object] | tuple[int, object, dict[str, str]] | bytes
Script = Callable[[Seen], Reply]


@dataclass
class ScriptedServer:
    """A server on 127.0.0.1 that answers what its script says."""

    script: Script
    context: ssl.SSLContext | None = None
    seen: list[Seen] = field(default_factory=list)
    port: int = 0
    _listener: socket.socket | None = None
    _threads: list[threading.Thread] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The address to give to the command."""
        return f"{'https' if self.context else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> ScriptedServer:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(30)
        self.port = self._listener.getsockname()[1]
        thread = threading.Thread(target=self._accept, daemon=True)
        thread.start()
        self._threads.append(thread)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._listener is not None
        # Waking a thread that is blocked in accept needs a shutdown, closing is not enough.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        assert self._listener is not None
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(10)
            try:
                stream = (
                    self.context.wrap_socket(connection, server_side=True)
                    if self.context
                    else connection
                )
                while self._answer(stream):
                    pass
                if isinstance(stream, ssl.SSLSocket):
                    stream.close()
            except OSError:
                return

    def _answer(self, stream: socket.socket) -> bool:
        data = b""
        while b"\r\n\r\n" not in data:
            chunk = stream.recv(65536)
            if not chunk or len(data) > REQUEST_BYTES_MAX:
                return False
            data += chunk
            if data[:1] == b"\x16" and self.context is None:  # a TLS client on a plain port
                stream.sendall(render((400, b"")))
                return False
        head, _, body = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {
            name.lower(): value.strip() for name, _, value in (s.partition(":") for s in lines)
        }
        while len(body) < int(headers.get("content-length", "0")):
            body += stream.recv(65536)
        request = Seen(method, path, headers, body)
        self.seen.append(request)
        reply = self.script(request)
        if isinstance(reply, bytes):
            stream.sendall(reply)
            return False
        stream.sendall(render(reply))
        return True


def render(reply: tuple[int, object] | tuple[int, object, dict[str, str]]) -> bytes:
    """Return an answer's bytes."""
    status, content = reply[0], reply[1]
    extra = reply[2] if len(reply) == 3 else {}
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    if status == 204:
        return b"HTTP/1.1 204 No Content\r\n\r\n"
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in extra.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def table(answers: Mapping[str, Reply]) -> Script:
    """Answer by path (without query); anything else is 404."""

    def script(request: Seen) -> Reply:
        return answers.get(request.path.partition("?")[0], (404, {"errors": []}))

    return script


SEALED = {
    "type": "shamir",
    "initialized": True,
    "sealed": True,
    "t": 3,
    "n": 5,
    "progress": 1,
    "nonce": "60718715-c280-c639-ba30-7f4b8668c02b",
    "recovery_seal": False,
    "version": "2.7.2",
    "commit_date": "2026-10-26T20:32:27Z",
    "migration": False,
    "storage_type": "postgresql",
}
UNSEALED = {
    **SEALED,
    "sealed": False,
    "progress": 0,
    "nonce": "",
    "cluster_name": "vault-cluster-b8eca7de",
    "cluster_id": "6cae3856-de5e-9f8f-e7e1-3d4313dd68dc",
}
UNINITIALIZED = {**SEALED, "initialized": False, "t": 0, "n": 0, "progress": 0, "nonce": ""}
ACTIVE = {
    "ha_enabled": True,
    "is_self": True,
    "active_time": "2026-11-23T10:52:53.001486236Z",
    "leader_address": "http://127.0.0.1:20200",
    "leader_cluster_address": "https://127.0.0.1:20201",
}
STANDBY = {
    "ha_enabled": True,
    "is_self": False,
    "leader_address": "http://127.0.0.1:20200",
    "leader_cluster_address": "https://127.0.0.1:20201",
}
HEALTH = {"initialized": True, "sealed": False, "version": "2.7.2"}
NO_FORWARDING = "x-vault-no-request-forwarding"


def active_node(**others: Reply) -> Script:
    """Answer like the active node."""
    return table(
        {
            "/v1/sys/seal-status": (200, UNSEALED),
            "/v1/sys/leader": (200, ACTIVE),
            "/v1/sys/health": (200, HEALTH),
            "/v1/sys/ha-status": (403, {"errors": ["permission denied"]}),
            **{f"/v1/{name.replace('__', '/')}": reply for name, reply in others.items()},
        }
    )


def standby_node(leader: Mapping[str, object] = STANDBY, *, forwards: bool = True) -> Script:
    """Answer like a standby; without forwarding it redirects."""
    redirect: Reply = (307, b"", {"Location": "http://127.0.0.1:20200/v1/sys/ha-status"})

    def script(request: Seen) -> Reply:
        if request.path.startswith("/v1/sys/ha-status"):
            if not leader.get("leader_address"):
                return (
                    500,
                    {"errors": ["local node not active but active cluster node not found"]},
                )
            bare = NO_FORWARDING in request.headers
            return redirect if bare or not forwards else (403, {"errors": ["permission denied"]})
        return table(
            {
                "/v1/sys/seal-status": (200, UNSEALED),
                "/v1/sys/leader": (200, dict(leader)),
                "/v1/sys/health": (200, HEALTH),
            }
        )(request)

    return script


@dataclass
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str


class CommandLine:
    """
    Run commands in this process, as a terminal would, with a clean environment.

    ``home`` is an empty directory; no variable of the developer's shell gets in. Nothing is tried
    again unless a test says so.
    """

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], home: str
    ) -> None:
        self._monkeypatch = monkeypatch
        self._capture = capfdbinary
        for name in list(os.environ):
            if name.startswith(("BAO", "VAULT_", "NO_COLOR", "FORCE_COLOR")):
                monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", home)
        monkeypatch.setenv("BAO_MAX_RETRIES", "0")

    def setenv(self, name: str, value: str) -> None:
        """Set a variable for the commands that follow."""
        self._monkeypatch.setenv(name, value)

    def __call__(self, *argv: str) -> Ran:
        """Run one command."""
        self._capture.readouterr()
        code = main(argv)
        out, err = self._capture.readouterr()
        return Ran(code, out.decode("utf-8", "replace"), err.decode("utf-8", "replace"))


@contextmanager
def nodes(*scripts: Script) -> Iterator[list[ScriptedServer]]:
    """Open a fake node per script."""
    opened: list[ScriptedServer] = []
    try:
        for script in scripts:
            opened.append(ScriptedServer(script).__enter__())
        yield opened
    finally:
        for node in opened:
            node.__exit__()


def free_port() -> int:
    """Return a port on which nobody listens, as far as one can know."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def words_left(context: Any) -> list[str]:
    """
    Return the words that a group of commands has not parsed: the command's name and its own.

    Looks inside click's context: what is public of it is without the name, or gives a warning.
    """
    return [*context._protected_args, *context.args]
