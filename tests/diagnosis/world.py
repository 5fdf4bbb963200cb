"""
A scripted cluster: nodes, cluster ports and load balancers that misbehave as told.

Rules of this file. Everything listens on 127.0.0.x and answers over real sockets. A default world
is healthy: one active node, two standbys that forward, an open cluster port; a case changes what it
is about and nothing else.

Theory of operation. A `Scripted` node is a FakeNode whose script reads the node's attributes at
every request, so that a case may change them after the nodes were opened (ports are known then).
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit

import trustme

from tests.support.cli_lab import NO_FORWARDING, UNSEALED, Reply, ScriptedServer, Seen, free_port

DENIED: Reply = (403, {"errors": ["permission denied"]})
NO_LEADER: Reply = (
    500,
    {"errors": ["local node not active but active cluster node not found"]},
)
SEALED: Reply = (503, {"errors": ["Vault is sealed"]})


class Gate:
    """Lets scripts hang until the world ends."""

    def __init__(self) -> None:
        self._over = threading.Event()

    def hang(self) -> Reply:
        """Answer never."""
        self._over.wait(30)
        return b""

    def wait(self, limit_s: float) -> None:
        """Be slow."""
        self._over.wait(limit_s)

    def open(self) -> None:
        """Let everybody go."""
        self._over.set()


@dataclass
class Scripted:
    """One node; its attributes are what it says."""

    world: World
    name: str
    role: str = "standby"
    leader: Scripted | None = None
    says: tuple[str, str] | None = None
    api_addr: str = ""
    cluster_addr: str = ""
    forwards: bool = True
    version: str = "2.7.2"
    cluster_id: str = UNSEALED["cluster_id"]  # type: ignore[assignment]
    skew_s: int = 0
    is_self: bool | None = None
    delay_s: float = 0.0
    overrides: dict[str, Reply | Callable[[Seen], Reply]] = field(default_factory=dict)
    health: dict[str, object] = field(default_factory=dict)
    health_status: int | None = None
    seal: dict[str, object] = field(default_factory=dict)
    fake: ScriptedServer = field(init=False)

    @property
    def url(self) -> str:
        """Where it is."""
        return self.fake.url

    @property
    def label(self) -> str:
        """What the command calls it."""
        return self.url.partition("://")[2]

    def advertised(self) -> tuple[str, str]:
        """Return the addresses of the leader it names."""
        if self.says is not None:
            return self.says
        if self.role == "active":
            return self.api_addr or self.url, self.cluster_addr
        return self.leader.advertised() if self.leader else ("", "")

    def answer(self, request: Seen) -> Reply:
        """Answer one request."""
        path = request.path.partition("?")[0].removeprefix("/v1/sys/")
        if self.delay_s:
            time.sleep(self.delay_s)
        override = self.overrides.get(path, self.overrides.get("*"))
        if override is not None:
            return override(request) if callable(override) else override
        if path == "seal-status":
            return 200, self._seal()
        if path == "health":
            return self.answer_health()
        if self.role in ("sealed", "uninitialized"):
            return SEALED
        if path == "leader":
            return 200, self.answer_leader()
        if path == "ha-status":
            return self.answer_ha_status(request)
        return DENIED

    def _seal(self) -> dict[str, object]:
        body: dict[str, object] = {
            **UNSEALED,
            "version": self.version,
            "cluster_id": self.cluster_id,
            "sealed": self.role in ("sealed", "uninitialized"),
            "initialized": self.role != "uninitialized",
        }
        return {**body, **self.seal}

    def answer_leader(self) -> dict[str, object]:
        api, cluster = self.advertised()
        is_self = self.role == "active" if self.is_self is None else self.is_self
        body: dict[str, object] = {
            "ha_enabled": True,
            "is_self": is_self,
            "leader_address": api,
            "leader_cluster_address": cluster,
        }
        return {**body, **self.overrides_of("leader_body")}

    def overrides_of(self, name: str) -> dict[str, object]:
        """Return a dictionary among the overrides."""
        found = self.overrides.get(name)
        return found[1] if isinstance(found, tuple) and isinstance(found[1], dict) else {}

    def answer_health(self) -> Reply:
        usual = {"active": 200, "standby": 429, "sealed": 503, "uninitialized": 501}[self.role]
        body: dict[str, object] = {
            "initialized": self.role != "uninitialized",
            "sealed": self.role in ("sealed", "uninitialized"),
            "standby": self.role == "standby",
            "server_time_utc": int(time.time() + self.skew_s),
            "version": self.version,
        }
        return self.health_status or usual, {**body, **self.health}

    def answer_ha_status(self, request: Seen) -> Reply:
        if "x-vault-token" in request.headers:
            return 200, {"nodes": self.world.members()}
        if self.role == "active":
            return DENIED
        api, _ = self.advertised()
        if not api:
            return NO_LEADER
        if self.forwards and NO_FORWARDING not in request.headers:
            return DENIED
        parts = urlsplit(api)
        location = f"{parts.scheme}://{parts.netloc}{request.path}"
        return 307, b"", {"Location": location}


class World:
    """Everything that one case needs; ends with the `with` block."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes: list[Scripted] = []
        self.others: list[ScriptedServer] = []
        self.gate = Gate()
        self.token = ""
        self._stack = ExitStack()
        self._authority: trustme.CA | None = None
        self._members: list[dict[str, object]] | None = None

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self.gate.open()
        self._stack.close()

    # --- nodes --------------------------------------------------------------------------------

    def cluster(self, count: int = 3, *, context: ssl.SSLContext | None = None) -> list[Scripted]:
        """Open a healthy cluster; the first node is active."""
        first = self.node("active", context=context)
        first.cluster_addr = self.cluster_port("active")
        for _ in range(count - 1):
            self.node("standby", leader=first, context=context)
        return list(self.nodes)

    def node(
        self, role: str, *, leader: Scripted | None = None, context: ssl.SSLContext | None = None
    ) -> Scripted:
        """Open one node."""
        scripted = Scripted(self, f"n{len(self.nodes)}", role, leader)
        scripted.fake = self._stack.enter_context(ScriptedServer(scripted.answer, context))
        self.nodes.append(scripted)
        return scripted

    def fake(self, script: Callable[[Seen], Reply], context: ssl.SSLContext | None = None) -> str:
        """Open something else that speaks HTTP; return its address."""
        node = self._stack.enter_context(ScriptedServer(script, context))
        self.others.append(node)
        return node.url

    def addresses(self) -> str:
        """Return the comma list of all nodes."""
        return ",".join(node.url for node in self.nodes)

    def members(self) -> list[dict[str, object]]:
        """Return what sys/ha-status lists."""
        if self._members is not None:
            return self._members
        return [
            {
                "hostname": node.name,
                "api_address": node.api_addr or node.url,
                "cluster_address": node.cluster_addr,
                "active_node": node.role == "active",
                "version": node.version,
                "last_echo": None,
            }
            for node in self.nodes
        ]

    def list_members(self, members: Sequence[dict[str, object]]) -> None:
        """Let sys/ha-status list these."""
        self._members = list(members)

    # --- ports and certificates ---------------------------------------------------------------

    @property
    def authority(self) -> trustme.CA:
        """The CA of this world."""
        if self._authority is None:
            self._authority = trustme.CA()
        return self._authority

    def ca_file(self) -> str:
        """Return the path of its certificate."""
        path = self.folder / "ca.pem"
        self.authority.cert_pem.write_to_path(path)
        return str(path)

    def context(
        self,
        *names: str,
        authority: trustme.CA | None = None,
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> ssl.SSLContext:
        """Return a server's context with a certificate for these names (127.0.0.1 by default)."""
        issued = (authority or self.authority).issue_cert(
            *(names or ("127.0.0.1",)), not_before=not_before, not_after=not_after
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issued.configure_cert(context)
        return context

    def cluster_port(self, kind: str) -> str:
        """
        Open a cluster port and return its address.

        Args:
            kind: "active", "baoha", "listener", "https", "plain", "silent", "closed" or "refused".
        """
        if kind == "refused":
            return f"https://127.0.0.1:{free_port()}"
        if kind == "black hole":
            return f"https://127.0.0.1:{self.black_hole()}"
        if kind == "plain":
            return self.fake(lambda _: (404, b"")).replace("http:", "https:")
        if kind == "https":
            return self.fake(lambda _: (404, b"no such page"), self.context())
        port = _Port(kind, self._port_context(kind))
        self._stack.callback(port.close)
        return f"https://127.0.0.1:{port.number}"

    def _port_context(self, kind: str) -> ssl.SSLContext | None:
        if kind in ("silent", "closed"):
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if kind == "listener":
            trustme.CA().issue_cert("fw-x").configure_cert(context)
            context.sni_callback = lambda *_: ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
            return context
        name = f"fw-{uuid.uuid4()}"
        trustme.CA().issue_cert(common_name=name).configure_cert(context)
        context.set_alpn_protocols(["baoha-cluster/1" if kind == "baoha" else "req_fw_sb-act_v1"])
        return context

    def black_hole(self) -> int:
        """Return a port that answers no SYN: its queue of connections is full."""
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        self._stack.callback(listener.close)
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            self._stack.callback(filler.close)
        return int(listener.getsockname()[1])

    # --- load balancers -----------------------------------------------------------------------

    def balancer(self, *backends: Scripted, sticky: bool = False, dead: int = 0) -> str:
        """Open a TCP load balancer over nodes (and dead ones), round robin; return its address."""
        ports = [node.fake.port for node in backends] + [free_port() for _ in range(dead)]
        proxy = _Balancer(ports, sticky=sticky)
        self._stack.callback(proxy.close)
        return f"http://127.0.0.1:{proxy.number}"


class _Server:
    """A thread that accepts connections and hands them on."""

    def __init__(self, serve: Callable[[socket.socket], None]) -> None:
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.number = int(self._listener.getsockname()[1])
        self.open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop accepting and close what is open."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self.open:
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()


class _Port(_Server):
    """A cluster port of some kind."""

    def __init__(self, kind: str, context: ssl.SSLContext | None) -> None:
        self._kind = kind
        self._context = context
        super().__init__(self._shake)

    def _shake(self, connection: socket.socket) -> None:
        if self._kind == "silent":
            return  # stays open until the end
        try:
            if self._context is not None:
                with self._context.wrap_socket(connection, server_side=True) as stream:
                    stream.recv(1)
        except OSError:
            pass
        finally:
            connection.close()


class _Balancer(_Server):
    """Passes connections on to nodes."""

    def __init__(self, ports: Sequence[int], *, sticky: bool) -> None:
        self._next = cycle(ports[:1] if sticky else ports)
        self._lock = threading.Lock()
        super().__init__(self._pass_on)

    def _pass_on(self, connection: socket.socket) -> None:
        with self._lock:
            port = next(self._next)
        try:
            backend = socket.create_connection(("127.0.0.1", port), timeout=5)
        except OSError:
            connection.close()
            return
        self.open.append(backend)
        threading.Thread(target=_pump, args=(backend, connection), daemon=True).start()
        _pump(connection, backend)


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    finally:
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
