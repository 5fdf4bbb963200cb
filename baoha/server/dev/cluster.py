"""
``baoha server --dev-ha N``: a cluster of N processes on loopback over one SQLite store.

Rules of this file:

1. The children end with their parent, however it ends: each holds the reading end of a pipe whose
   writing end only the parent has.
2. For trying out and for CI: no TLS, all secrets printed and kept in the folder. A child that dies
   is reported and not started again.

Theory of operation. Each child is an ordinary server with a configuration file of its own; the
parent initialises and unseals through their HTTP API. Children run in process groups of their own,
so that Ctrl-C reaches the parent only, which then ends the standbys first and the active node last
(its hand-over would only bother the others).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import trio

from baoha.errors import BaohaError, ConfigError
from baoha.server.dev import bootstrap
from baoha.server.dev.bootstrap import BootstrapError, DevNode, DevSecrets
from baoha.server.dev.single import toml_text, write_secret
from baoha.server.process import complain, fill_standard_descriptors, say

NODES_MAX = 9
DEFAULT_PORT = 8200
HOST = "127.0.0.1"
STARTUP_S = 30.0
# How long an orderly end of one child may take before it is killed.
STOP_S = 20.0
LINE_BYTES_MAX = 65_536
STATE_FILE = "cluster.json"


@dataclass(slots=True, kw_only=True, eq=False)
class Child:
    """One node process."""

    name: str
    port: int
    folder: Path
    process: trio.Process | None = None
    api: DevNode = field(init=False)

    def __post_init__(self) -> None:
        self.api = DevNode(f"{HOST}:{self.port}")

    @property
    def log_file(self) -> Path:
        """Where its output goes."""
        return self.folder / f"{self.name}.log"

    @property
    def config_file(self) -> Path:
        """Its configuration."""
        return self.folder / f"{self.name}.toml"

    @property
    def is_running(self) -> bool:
        """Return whether the process is there."""
        return self.process is not None and self.process.poll() is None


def run_dev_ha(
    nodes: int,
    *,
    folder: Path | None = None,
    port: int = DEFAULT_PORT,
    root_token: str = "",
    show_logs: bool = False,
    log_level: str = "info",
) -> int:
    """
    Run a development cluster until a signal ends it, and return the exit code.

    Args:
        nodes: how many, 1 to NODES_MAX.
        folder: for the store, the configurations and the logs; a cluster found there is started
            again. None takes a temporary one that is removed at the end.
        port: of the first node's API; the others follow in steps of two, each cluster port is its
            API port + 1. 0 takes free ones.
        root_token: the root token to have; "" takes the one that init made.
        show_logs: print the children's output, each line behind the name of its node.

    Raises:
        ConfigError: a number is out of range, or no ports are free.
    """
    fill_standard_descriptors()
    if not 1 <= nodes <= NODES_MAX:
        raise ConfigError(f"the number of nodes must be between 1 and {NODES_MAX}, got {nodes}")
    with ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="baoha-dev-ha-")))
        folder = folder.absolute()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        children = [
            Child(name=f"node{number}", port=chosen, folder=folder)
            for number, chosen in enumerate(_ports(nodes, port), 1)
        ]
        for child in children:
            _write_config(child, log_level)
        cluster = DevCluster(children, folder=folder, root_token=root_token, show_logs=show_logs)
        return trio.run(cluster.run)


class DevCluster:
    """The children, from start to end."""

    def __init__(
        self, children: Sequence[Child], *, folder: Path, root_token: str, show_logs: bool
    ) -> None:
        self._children = children
        self._folder = folder
        self._root_token = root_token
        self._show_logs = show_logs
        self._stopping = False
        self._ended = trio.Event()  # every child has ended
        self._exit_code = 0

    async def run(self) -> int:
        """Start the children, prepare them, wait for a signal, end them."""
        # Not inheritable: the children must not keep the writing end open themselves.
        reading, writing = os.pipe()
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            try:
                async with trio.open_nursery() as nursery:
                    main = trio.CancelScope()
                    nursery.start_soon(self._watch_signals, signals, main)
                    with main:
                        for child in self._children:
                            await self._start(child, reading, nursery)
                        await self._prepare()
                        await self._ended.wait()
                        self._exit_code = 1
                        complain("==> all nodes have ended")
                    await self._stop()
                    nursery.cancel_scope.cancel()
            except* (BaohaError, OSError) as group:
                self._exit_code = 1
                for error in group.exceptions:
                    complain(f"Error in the dev cluster: {error}")
            finally:
                os.close(writing)
                os.close(reading)
        return self._exit_code

    async def _watch_signals(self, signals: AsyncIterator[int], main: trio.CancelScope) -> None:
        async for _ in signals:
            if self._stopping:
                for child in self._children:
                    if child.is_running and child.process is not None:
                        child.process.kill()
            else:
                self._stopping = True
                say("==> baoha dev cluster shutdown triggered")
                main.cancel()

    async def _start(self, child: Child, pipe: int, nursery: trio.Nursery) -> None:
        command = [sys.executable, "-m", "baoha.server", "--config", str(child.config_file)]
        child.process = await trio.lowlevel.open_process(
            [*command, "--exit-with-parent", str(pipe)],
            pass_fds=(pipe,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        nursery.start_soon(self._watch_child, child)

    async def _watch_child(self, child: Child) -> None:
        process = child.process
        assert process is not None
        assert process.stdout is not None
        with child.log_file.open("ab", buffering=0) as log:
            async for line in _lines(process.stdout):
                log.write(line + b"\n")
                if self._show_logs:
                    say(f"{child.name} | {line.decode('utf-8', 'replace')}")
        code = await process.wait()
        if not self._stopping:
            complain(f"==> {child.name} has ended by itself: exit code {code}, see its log")
        if not any(other.is_running for other in self._children):
            self._ended.set()

    # --- preparation -----------------------------------------------------------------------------

    async def _prepare(self) -> None:
        for child in self._children:
            await self._wait_listening(child)
        first, *others = (child.api for child in self._children)
        known = self._known_secrets()
        secrets = known or await bootstrap.initialize(first)
        if known is None:
            self._store(secrets)
        await bootstrap.unseal(first, secrets)
        active = await bootstrap.wait_active([first])
        for node in others:
            await bootstrap.unseal(node, secrets)
        for node in others:
            await bootstrap.wait_standby(node)
        if known is None:
            secrets = await bootstrap.furnish(active, secrets, root_token=self._root_token)
        self._store(secrets)  # again: process ids and the token are new
        for node in others:
            # Ready means that a standby answers, too.
            await node.must("GET", "auth/token/lookup-self", token=secrets.root_token)
        say(self._welcome(secrets))

    async def _wait_listening(self, child: Child) -> None:
        with trio.move_on_after(STARTUP_S):
            while await child.api.health() == 0:
                if not child.is_running:
                    raise BootstrapError(f"{child.name} did not start:\n{_tail(child.log_file)}")
                await trio.sleep(bootstrap.POLL_S)
            return
        raise BootstrapError(f"{child.name} does not answer:\n{_tail(child.log_file)}")

    def _known_secrets(self) -> DevSecrets | None:
        """Return the secrets of a cluster that was made in this folder before."""
        file = self._folder / STATE_FILE
        if not file.exists():
            return None
        try:
            state = json.loads(file.read_text())
            return DevSecrets(unseal_key=state["unseal_key"], root_token=state["root_token"])
        except (ValueError, KeyError, TypeError) as error:
            raise BootstrapError(f"{file} is damaged; remove the folder to begin anew") from error

    def _store(self, secrets: DevSecrets) -> None:
        """Write what tools and the next start need."""
        state = {
            "unseal_key": secrets.unseal_key,
            "root_token": secrets.root_token,
            "nodes": [
                {
                    "name": child.name,
                    "address": f"http://{child.api.address}",
                    "cluster_address": f"https://{HOST}:{child.port + 1}",
                    "pid": child.process.pid if child.process is not None else 0,
                    "config": str(child.config_file),
                    "log": str(child.log_file),
                }
                for child in self._children
            ],
        }
        write_secret(self._folder / STATE_FILE, json.dumps(state, indent=2) + "\n")

    def _welcome(self, secrets: DevSecrets) -> str:
        first = f"http://{self._children[0].api.address}"
        rows = "\n".join(
            f"    {child.name}  http://{child.api.address}  "
            f"pid {child.process.pid if child.process is not None else 0}  {child.log_file}"
            for child in self._children
        )
        return f"""
==> baoha dev cluster: {len(self._children)} nodes over one SQLite store

{rows}

WARNING! This is a cluster for trying out: no TLS, and every secret is printed here
and kept in {self._folder / STATE_FILE}.

    $ export BAO_ADDR='{first}' BAO_TOKEN='{secrets.root_token}'
    $ curl -s -H "X-Vault-Token: $BAO_TOKEN" $BAO_ADDR/v1/sys/ha-status

Unseal Key: {secrets.unseal_key}
Root Token: {secrets.root_token}

==> baoha dev cluster is ready
"""

    # --- end -------------------------------------------------------------------------------------

    async def _stop(self) -> None:
        self._stopping = True
        active = [child for child in self._children if await self._is_active(child)]
        standbys = [child for child in self._children if child not in active]
        for child in (*standbys, *active):
            await _end(child)

    async def _is_active(self, child: Child) -> bool:
        with trio.move_on_after(1.0):
            return child.is_running and await child.api.health() == 200
        return False


async def _end(child: Child) -> None:
    process = child.process
    if process is None or process.poll() is not None:
        return
    process.terminate()
    with trio.move_on_after(STOP_S):
        await process.wait()
        return
    complain(f"==> {child.name} does not end, killing it")
    process.kill()
    await process.wait()


def _ports(nodes: int, first: int) -> list[int]:
    if first:
        if not 0 < first <= 65_535 - 2 * nodes:
            raise ConfigError(f"there is no room for {nodes} nodes from port {first} on")
        return [first + 2 * index for index in range(nodes)]
    chosen: list[int] = []
    # Held open until all are chosen, so that no port is chosen twice.
    with ExitStack() as held:
        for _ in range(100 * nodes):
            if len(chosen) == nodes:
                return chosen
            api = held.enter_context(socket.socket())
            api.bind((HOST, 0))
            port = api.getsockname()[1]
            cluster = held.enter_context(socket.socket())
            try:
                cluster.bind((HOST, port + 1))
            except (OSError, OverflowError):
                continue
            chosen.append(port)
    raise ConfigError("cannot find free ports")


def _write_config(child: Child, log_level: str) -> None:
    address = f"{HOST}:{child.port}"
    child.config_file.write_text(
        "\n".join(
            [
                f'api_addr = "http://{address}"',
                f'cluster_addr = "https://{HOST}:{child.port + 1}"',
                f"log_level = {toml_text(log_level)}",
                "",
                "[storage.sqlite]",
                f"path = {toml_text(str(child.folder / 'baoha.db'))}",
                "",
                "[[listener.tcp]]",
                f'address = "{address}"',
                "tls_disable = true",
                "",
            ]
        )
    )


async def _lines(stream: trio.abc.ReceiveStream) -> AsyncIterator[bytes]:
    buffer = b""
    async for part in stream:
        *lines, buffer = (buffer + part).split(b"\n")
        for line in lines:
            yield line
        if len(buffer) > LINE_BYTES_MAX:
            yield buffer
            buffer = b""
    if buffer:
        yield buffer


def _tail(file: Path) -> str:
    try:
        return "\n".join(file.read_text(errors="replace").splitlines()[-10:])
    except OSError:
        return "(no log)"
