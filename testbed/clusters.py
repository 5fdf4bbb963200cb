"""
Start a described cluster of real processes on loopback, and do things to its nodes.

Rules of this file:

1. Every process that is started here is ended here, by its own process id, also when the caller
   fails or is cancelled.
2. A cluster is handed out when every node answers a read of a stored secret, not earlier.

Theory of operation. The first node is initialised and unsealed, KV version 2 is mounted at
``secret/``, then the other nodes join and are unsealed. Sealed nodes are unsealed over HTTP with
the one key share; a node with a seal of its own only has to be waited for.
"""

from __future__ import annotations

import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import trio

from testbed.descriptions import Description, common_variables, fill
from testbed.http import Connection, RequestFailed, Response
from testbed.ports import HOST, free_ports
from testbed.postgresql import run_postgresql
from testbed.processes import ServerProcess

START_S = 30.0
READY_S = 60.0
POLL_S = 0.05
UNSEAL_AGAIN_S = 3.0
REQUEST_S = 10.0
# Read to find out whether a node answers.
READY_PATH = "/v1/secret/data/ready"

EditConfig = Callable[["RunningNode", str], str]


class LabError(Exception):
    """
    A cluster did not do what the lab needs of it.

    Attributes:
        logs: the ends of the logs that may say why.
    """

    def __init__(self, text: str, logs: str = "") -> None:
        super().__init__(text)
        self.logs = logs

    def __str__(self) -> str:
        return f"{self.args[0]}\n{self.logs}" if self.logs else str(self.args[0])

    @property
    def summary(self) -> str:
        """The text without the logs."""
        return str(self.args[0])


class RunningNode:
    """
    One node: its addresses, its files, its process.

    Attributes:
        config: the text of its configuration file, written at every start.
        process: the running one, or the last one.
    """

    def __init__(self, index: int, port: int, shared: Path, description: Description) -> None:
        self.index = index
        self.name = f"node{index + 1}"
        self.port = port
        self.cluster_port = port + 1
        self.host = HOST
        self.folder = shared / self.name
        self.log_file = shared / f"{self.name}.log"
        self.config_file = shared / f"{self.name}-{description.config_file}"
        self.config = ""
        self.process: ServerProcess | None = None
        self._description = description
        self._variables: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<{self.name} {self.address}>"

    @property
    def address(self) -> str:
        """The URL of its API."""
        return f"http://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Return whether its process has not ended."""
        return self.process is not None and self.process.is_running

    def configure(self, variables: Mapping[str, str], edit: EditConfig | None) -> None:
        """Make the configuration from the description."""
        self.folder.mkdir()
        self._variables = {
            **variables,
            "name": self.name,
            "folder": str(self.folder),
            "config": str(self.config_file),
            "host": self.host,
            "api_port": str(self.port),
            "cluster_port": str(self.cluster_port),
        }
        self.config = fill(self._description.config, self._variables)
        if edit is not None:
            self.config = edit(self, self.config)

    def start(self, *, environment: Mapping[str, str] | None = None) -> None:
        """Start the process; nothing is known about it yet."""
        self.config_file.write_text(self.config)
        command = [fill(part, self._variables) for part in self._description.command]
        self.process = ServerProcess(
            command, log_file=self.log_file, environment=environment, folder=Path.cwd()
        )

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send(number)

    def freeze(self) -> None:
        """SIGSTOP: the process is there and does nothing."""
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.send(signal.SIGCONT)

    async def terminate(self) -> int:
        """SIGTERM, and wait for the end; return the exit code."""
        return await self._process.stop()

    async def kill(self) -> int:
        """SIGKILL, and wait for the end."""
        return await self._process.kill()

    def log(self) -> str:
        """Return everything the node has printed."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def log_tail(self, lines: int = 30) -> str:
        """Return the end of it."""
        return "\n".join(self.log().splitlines()[-lines:])

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | bytes | None = None,
        *,
        token: str = "",
        headers: Mapping[str, str] | None = None,
        timeout_s: float = REQUEST_S,
    ) -> Response:
        """
        Send one request on a connection of its own.

        Raises:
            RequestFailed: there is no answer.
        """
        with Connection(self.host, self.port, token=token) as connection:
            return await connection.request(
                method, path, body, headers=headers, timeout_s=timeout_s
            )

    async def status_of(self, path: str, *, token: str = "", timeout_s: float = 2.0) -> int:
        """Return the status of a GET, 0 when there is no answer."""
        try:
            return (await self.call("GET", path, token=token, timeout_s=timeout_s)).status
        except RequestFailed:
            return 0

    async def must(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        *,
        token: str = "",
    ) -> Response:
        """
        Send one request that has to succeed.

        Raises:
            LabError: it did not.
        """
        try:
            response = await self.call(method, path, body, token=token, timeout_s=START_S)
        except RequestFailed as error:
            raise LabError(f"{self}: {method} {path}: {error}", self.log_tail()) from error
        if response.status >= 300:
            text = response.body.decode(errors="replace").strip()
            raise LabError(f"{self}: {method} {path}: {response.status} {text}")
        return response

    @property
    def _process(self) -> ServerProcess:
        if self.process is None:
            raise LabError(f"{self.name} was never started")
        return self.process


class Cluster:
    """A running cluster. Made by ``run_cluster``."""

    def __init__(
        self,
        description: Description,
        nodes: Sequence[RunningNode],
        services: Sequence[ServerProcess],
    ) -> None:
        self.description = description
        self.nodes = tuple(nodes)
        self.root_token = ""
        self.unseal_key = ""
        self._services = tuple(services)

    @property
    def name(self) -> str:
        """What tables call it."""
        return self.description.name

    def process_groups(self) -> list[int]:
        """Return the process groups of all nodes and services, for measuring."""
        running = [node.process for node in self.nodes if node.process is not None]
        return [process.pid for process in (*running, *self._services)]

    async def start(self) -> None:
        """
        Start all nodes, and wait until they listen.

        Raises:
            LabError: one does not.
        """
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            await self.wait_listening(node)

    async def set_up(self) -> None:
        """
        Initialise and unseal all nodes, mount KV, and wait until every node answers.

        Raises:
            LabError: it does not come up.
        """
        first, *others = self.nodes
        shares = "recovery" if self.description.auto_unseal else "secret"
        answer = await first.must(
            "PUT", "/v1/sys/init", {f"{shares}_shares": 1, f"{shares}_threshold": 1}
        )
        self.root_token = answer.json()["root_token"]
        if not self.description.auto_unseal:
            self.unseal_key = answer.json()["keys_base64"][0]
        await self.unseal(first)
        # Nodes that unseal themselves are all in the race by now.
        active = await self.wait_active(self.nodes if self.description.auto_unseal else (first,))
        await self._mount(active)
        await self._write_ready(active)
        for node in others:
            await self._join(node)
            await self.unseal(node)
        for node in self.nodes:
            await self.wait_ready(node)
        if self.description.join == "raft":
            await self._wait_voters(active)

    async def start_node(
        self, node: RunningNode, *, environment: Mapping[str, str] | None = None, ready: bool = True
    ) -> None:
        """
        Start a node that has ended, unseal it, and wait until it answers.

        Raises:
            LabError: it does not come up.
        """
        node.start(environment=environment)
        await self.wait_listening(node)
        await self.unseal(node)
        if ready:
            await self.wait_ready(node)

    async def unseal(self, node: RunningNode) -> None:
        """Unseal a node over HTTP; one with a seal of its own is left alone."""
        if self.description.auto_unseal:
            return
        with trio.move_on_after(START_S):
            # A node that has just joined does not know at once that the store is initialised, and
            # a raft member takes the key first and joins with it in the background.
            while True:
                await node.call("PUT", "/v1/sys/unseal", {"key": self.unseal_key})
                if await self._is_unsealed_soon(node):
                    return
        raise LabError(f"{node} does not unseal", node.log_tail())

    async def _is_unsealed_soon(self, node: RunningNode) -> bool:
        with trio.move_on_after(UNSEAL_AGAIN_S):
            while True:
                if not (await node.must("GET", "/v1/sys/seal-status")).json()["sealed"]:
                    return True
                await trio.sleep(POLL_S)
        return False

    async def active(self) -> RunningNode | None:
        """Return the node that says it is active, if there is one."""
        for node in self.nodes:
            if node.is_running and await node.status_of("/v1/sys/health", timeout_s=1.0) == 200:
                return node
        return None

    async def wait_active(self, among: Sequence[RunningNode] | None = None) -> RunningNode:
        """
        Return the active node, as soon as one says so.

        Raises:
            LabError: nobody does.
        """
        with trio.move_on_after(READY_S):
            while True:
                for node in self.nodes if among is None else among:
                    if await node.status_of("/v1/sys/health", timeout_s=1.0) == 200:
                        return node
                await trio.sleep(POLL_S)
        raise LabError("no active node", self.log_tails())

    async def wait_listening(self, node: RunningNode) -> None:
        """
        Return when the node answers at all.

        Raises:
            LabError: it does not, or has ended.
        """
        with trio.move_on_after(START_S):
            while node.is_running:
                if await node.status_of("/v1/sys/seal-status") == 200:
                    return
                await trio.sleep(POLL_S)
        raise LabError(f"{node} does not listen", node.log_tail())

    async def wait_ready(self, node: RunningNode, *, patience_s: float = READY_S) -> None:
        """
        Return when the node answers a read of a stored secret.

        Raises:
            LabError: it does not.
        """
        status = 0
        with trio.move_on_after(patience_s):
            while node.is_running:
                status = await node.status_of(READY_PATH, token=self.root_token)
                if status == 200:
                    return
                await trio.sleep(POLL_S)
        raise LabError(f"{node} answers {status}", node.log_tail())

    async def step_down(
        self, node: RunningNode, body: Mapping[str, object] | None = None
    ) -> Response:
        """Ask through this node that the active one steps down."""
        return await node.call(
            "PUT", "/v1/sys/step-down", body, token=self.root_token, timeout_s=START_S
        )

    def tenures(self) -> int:
        """Return how often a node has become active so far, by the logs."""
        mark = self.description.tenure_mark
        return sum(node.log().count(mark) for node in self.nodes) if mark else 0

    def log_tails(self) -> str:
        """Return the ends of all logs."""
        return "\n".join(f"--- {node}\n{node.log_tail()}" for node in self.nodes)

    async def tear_down(self) -> None:
        """End all nodes, each by its process id."""
        async with trio.open_nursery() as nursery:
            for node in self.nodes:
                if node.process is not None:
                    nursery.start_soon(node.process.kill)

    async def _join(self, node: RunningNode) -> None:
        if self.description.join == "raft":
            await node.must(
                "PUT", "/v1/sys/storage/raft/join", {"leader_api_addr": self.nodes[0].address}
            )

    async def _wait_voters(self, active: RunningNode) -> None:
        # New members of a raft cluster have no vote at first: nobody could replace the active one.
        path = "/v1/sys/storage/raft/configuration"
        with trio.move_on_after(READY_S):
            while True:
                answer = (await active.must("GET", path, token=self.root_token)).json()
                servers = answer["data"]["config"]["servers"]
                if len([True for server in servers if server["voter"]]) == len(self.nodes):
                    return
                await trio.sleep(4 * POLL_S)
        raise LabError(f"not all nodes have a vote: {servers}")

    async def _mount(self, node: RunningNode) -> None:
        mounts = (await node.must("GET", "/v1/sys/mounts", token=self.root_token)).json()["data"]
        if "secret/" not in mounts:
            body = {"type": "kv", "options": {"version": "2"}}
            await node.must("POST", "/v1/sys/mounts/secret", body, token=self.root_token)

    async def _write_ready(self, node: RunningNode) -> None:
        # The mount is upgraded in the background in OpenBao: not writable at once.
        body = {"data": {"ready": True}}
        with trio.move_on_after(READY_S):
            while True:
                response = await node.call("PUT", READY_PATH, body, token=self.root_token)
                if response.status == 200:
                    return
                await trio.sleep(POLL_S)
        raise LabError(f"{node} does not write: {response.status} {response.body!r}")


@asynccontextmanager
async def run_cluster(
    description: Description,
    *,
    folder: Path | None = None,
    edit: EditConfig | None = None,
    nodes: int | None = None,
    set_up: bool = True,
) -> AsyncIterator[Cluster]:
    """
    Run a cluster while the block lasts.

    Args:
        folder: where everything is kept; a temporary one that is removed by default.
        edit: changes the text of a node's configuration.
        nodes: how many, instead of what the description says.
        set_up: off leaves the nodes as they start: listening, and not initialised.

    Raises:
        LabError: it does not come up.

    Cancellation: all processes are ended.
    """
    async with AsyncExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lab-")))
        shared = folder / "shared"
        shared.mkdir()
        variables = {**common_variables(), "shared": str(shared)}
        services: list[ServerProcess] = []
        if "postgresql" in description.services:
            postgresql = await stack.enter_async_context(run_postgresql(folder))
            variables["postgresql_url"] = postgresql.url
            services.append(postgresql.process)
        members = [
            RunningNode(index, port, shared, description)
            for index, port in enumerate(free_ports(nodes or description.nodes))
        ]
        for node in members:
            node.configure(variables, edit)
        cluster = Cluster(description, members, services)
        try:
            await cluster.start()
            if set_up:
                await cluster.set_up()
            yield cluster
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + START_S):
                await cluster.tear_down()
