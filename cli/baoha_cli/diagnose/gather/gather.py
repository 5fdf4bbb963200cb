"""
Gathering: which looks are taken, and when.

Rules of this file. Everything that can run at the same time does. The nodes are asked again, at
least three times over at least three seconds, when what was seen could be an election; the looks
at addresses run meanwhile, once. Addresses that servers name get nothing of the operator's: no
token, no headers, no client certificate.

Theory of operation. `Gathering.run` takes the first round, starts the looks at the addresses that
it named, goes on with rounds while `keep_asking` says that something is suspicious, and looks at
addresses that appeared meanwhile. The tokenless requests accept any certificate, since a wrong one
is evidence as well (`look_at_tls` judges it) and there is nothing to steal from them; the requests
with a token are made by a client that verifies.

Source: docs/spec/cluster-cli.md section 6.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Final

import trio

from baoha_cli.client.address import Endpoint, parse_address
from baoha_cli.client.client import Client
from baoha_cli.client.token import Token
from baoha_cli.client.transport import ConnectionSettings
from baoha_cli.diagnose.evidence import (
    Chain,
    Evidence,
    Members,
    NameLook,
    PortKind,
    PortLook,
    TlsLook,
    ViaLook,
)
from baoha_cli.diagnose.gather.balancer import sample
from baoha_cli.diagnose.gather.chains import walk
from baoha_cli.diagnose.gather.looks import look_at_name, look_at_port, look_at_tls
from baoha_cli.diagnose.gather.members import look_at_members
from baoha_cli.failures import ErrorKind, UsageFailed
from baoha_cli.survey.ask import (
    HEALTH,
    ROLES_ONLY,
    SEAL_STATUS,
    AskOptions,
    Probe,
    ask,
    for_given,
    for_strangers,
    look_at_node,
    look_at_nodes,
)
from baoha_cli.survey.look import NodeLook, Reply

ROUNDS_MIN: Final = 3
ROUNDS_MAX: Final = 8
SETTLE_S: Final = 3.0
_WATCH_ROUNDS: Final = 60
_ADDRESSES_MAX: Final = 64


@dataclass(frozen=True)
class Wanted:
    """
    What to gather.

    Args:
        nodes: addresses and labels.
        vias: load balancers and labels.
        transport: as the operator set it.
        token: for the lists of members; None leaves them out.
        options: see AskOptions.
        addresses: look at ports, names, chains and advertised addresses.
        tls: look at certificates; "deep" tries more.
        from_node: leave out what is a matter of this machine's point of view.
        settle_s: what could be an election is asked again for so long.
        watch_s: look at the nodes for so long, whatever is seen.
        slow_s: what counts as slow.
        proxies: proxy variables of the environment.
    """

    nodes: Mapping[Endpoint, str]
    transport: ConnectionSettings
    vias: Mapping[Endpoint, str] = field(default_factory=dict)
    token: Token | None = None
    options: AskOptions = field(default_factory=lambda: AskOptions(Probe.ALL))
    addresses: bool = True
    tls: bool = True
    from_node: bool = False
    settle_s: float = SETTLE_S
    watch_s: float = 0.0
    slow_s: float = 0.5
    proxies: tuple[str, ...] = ()


async def gather(
    wanted: Wanted,
    keep_asking: Callable[[Evidence], bool],
    progress: Callable[[str], None] = lambda _: None,
) -> Evidence:
    """
    Look at everything that is wanted.

    Args:
        wanted: see Wanted.
        keep_asking: tells whether evidence of rounds so far could be an election.
        progress: gets a line when it takes longer.

    Cancellation:
        All connections are closed; nothing was changed anywhere.
    """
    async with (
        Client(for_given(wanted.transport)) as client,
        Client(for_strangers(wanted.transport)) as bare,
    ):
        return await _Gathering(wanted, client, bare, progress).run(keep_asking)


class _Gathering:
    """One run; the dictionaries fill as looks come back."""

    def __init__(
        self, wanted: Wanted, client: Client, bare: Client, progress: Callable[[str], None]
    ) -> None:
        self._wanted = wanted
        self._client = client
        self._bare = bare  # for addresses that servers name
        self._progress = progress
        self._began = 0.0
        self._rounds: list[tuple[NodeLook, ...]] = []
        self._ports: dict[str, PortLook] = {}
        self._tls: dict[str, TlsLook] = {}
        self._names: dict[str, NameLook] = {}
        self._chains: dict[Endpoint, Chain] = {}
        self._reach: dict[str, Reply] = {}
        self._vias: dict[Endpoint, ViaLook] = {}
        self._members: Members | None = None
        self._started: set[tuple[str, str]] = set()

    async def run(self, keep_asking: Callable[[Evidence], bool]) -> Evidence:
        self._began = trio.current_time()
        async with trio.open_nursery() as nursery:
            self._start_vias(nursery)
            await self._round()
            self._start_looks(nursery)
            while self._goes_on(keep_asking):
                if len(self._rounds) == 1:
                    self._progress("asking again, since this could be an election ...")
                due = self._began + len(self._rounds) * self._interval_s
                await trio.sleep_until(max(due, trio.current_time()))
                await self._round()
            self._start_looks(nursery)
        return self._evidence()

    @property
    def _interval_s(self) -> float:
        wanted = self._wanted
        return max(wanted.settle_s / ROUNDS_MIN, wanted.watch_s / _WATCH_ROUNDS)

    def _goes_on(self, keep_asking: Callable[[Evidence], bool]) -> bool:
        elapsed_s = trio.current_time() - self._began
        if elapsed_s < self._wanted.watch_s:
            return True
        if not keep_asking(self._evidence()):
            return False
        if len(self._rounds) < ROUNDS_MIN or elapsed_s < self._wanted.settle_s:
            return len(self._rounds) < ROUNDS_MAX
        return False

    async def _round(self) -> None:
        wanted = self._wanted
        before = self._rounds[-1] if self._rounds else ()
        looks = await look_at_nodes(self._client, wanted.nodes, wanted.options, before=before)
        self._rounds.append(looks)

    def _evidence(self) -> Evidence:
        return Evidence(
            rounds=tuple(self._rounds),
            seen_for_s=trio.current_time() - self._began,
            ports=dict(self._ports),
            tls=dict(self._tls),
            names=dict(self._names),
            chains=tuple(self._chains.values()),
            reach=dict(self._reach),
            vias=tuple(self._vias[via] for via in self._wanted.vias if via in self._vias),
            members=self._members,
            proxies=self._wanted.proxies,
            from_node=self._wanted.from_node,
            slow_s=self._wanted.slow_s,
        )

    # --- what to look at ----------------------------------------------------------------------

    def _start_vias(self, nursery: trio.Nursery) -> None:
        wanted = self._wanted

        async def look(endpoint: Endpoint, label: str) -> None:
            transport = for_given(wanted.transport)
            self._vias[endpoint] = await sample(transport, endpoint, label, wanted.options)

        for endpoint, label in wanted.vias.items():
            nursery.start_soon(look, endpoint, label)
            self._start_tls(nursery, endpoint)
            self._start_name(nursery, endpoint.host, endpoint.port)
        if wanted.token is not None:
            nursery.start_soon(self._look_at_members, wanted.token)

    def _start_looks(self, nursery: trio.Nursery) -> None:
        """Start the looks that what was seen last asks for; each one only once."""
        evidence = self._evidence()
        for node in evidence.nodes:
            speaks_tls = node.endpoint.scheme == "https"
            if speaks_tls or node.seal.kind is ErrorKind.PROTOCOL or node.seal.status == 400:
                self._start_tls(nursery, node.endpoint, await_alert=node.seal.kind is not None)
            self._start_name(nursery, node.endpoint.host, node.endpoint.port)
        if not self._wanted.addresses or self._wanted.from_node:
            return
        for node in evidence.nodes:
            if (node.bare.redirects or node.plain.redirects) and node.endpoint not in self._chains:
                nursery.start_soon(self._walk, node)
        for address in evidence.cluster_addresses[:_ADDRESSES_MAX]:
            if self._is_new("port", address):
                nursery.start_soon(self._look_at_port, address)
        for address in evidence.leader_addresses[:_ADDRESSES_MAX]:
            self._start_reach(nursery, evidence, address)

    def _start_reach(self, nursery: trio.Nursery, evidence: Evidence, address: str) -> None:
        try:
            endpoint = parse_address(address)
        except UsageFailed:
            return
        if endpoint.scheme == "https":
            self._start_tls(nursery, endpoint)
        self._start_name(nursery, endpoint.host, endpoint.port)
        if evidence.node_at(address) is None and self._is_new("reach", address):
            nursery.start_soon(self._look_at_reach, address, endpoint, HEALTH)

    def _start_tls(
        self, nursery: trio.Nursery, endpoint: Endpoint, *, await_alert: bool = False
    ) -> None:
        if self._wanted.tls and self._is_new("tls", endpoint.origin.lower()):
            nursery.start_soon(self._look_at_tls, endpoint, await_alert)

    def _start_name(self, nursery: trio.Nursery, host: str, port: int) -> None:
        if not _is_ip(host) and self._is_new("name", host.lower()):
            nursery.start_soon(self._look_at_name, host, port)

    def _is_new(self, kind: str, what: str) -> bool:
        key = (kind, what)
        if key in self._started:
            return False
        self._started.add(key)
        return True

    # --- the looks ----------------------------------------------------------------------------

    async def _walk(self, node: NodeLook) -> None:
        chain = await walk(self._bare, node)
        if chain is not None:
            self._chains[node.endpoint] = chain

    async def _look_at_port(self, address: str) -> None:
        look = await look_at_port(address)
        if look.kind is PortKind.HTTPS:
            # Is it the API of a node, or something that ends TLS in front of the cluster port?
            await self._look_at_reach(address, parse_address(address), SEAL_STATUS)
        self._ports[address] = look

    async def _look_at_reach(self, address: str, endpoint: Endpoint, path: str) -> None:
        self._reach[address], _ = await ask(self._bare, endpoint, path)

    async def _look_at_tls(self, endpoint: Endpoint, await_alert: bool) -> None:
        look = await look_at_tls(endpoint, self._wanted.transport.tls, await_alert=await_alert)
        self._tls[endpoint.origin.lower()] = look

    async def _look_at_name(self, host: str, port: int) -> None:
        look = await look_at_name(host, port)
        if len(look.addresses) > 1:
            look = replace(look, identities=await self._identities(host, port, look.addresses))
        self._names[host.lower()] = look

    async def _identities(self, host: str, port: int, addresses: Sequence[str]) -> tuple[str, ...]:
        """Ask each address of a name who it is; the texts differ when the nodes certainly do."""
        scheme = next(
            (
                endpoint.scheme
                for endpoint in (*self._wanted.nodes, *self._wanted.vias)
                if endpoint.host == host
            ),
            "https",
        )
        found: list[str] = []
        for address in addresses:
            endpoint = Endpoint(scheme, address, port, name=host)
            look = await look_at_node(self._bare, endpoint, address, ROLES_ONLY)
            if look.is_api:
                found.append(f"{look.role.value} {look.report.cluster_id}")
        return tuple(found)

    async def _look_at_members(self, token: Token) -> None:
        async with Client(self._wanted.transport) as strict:
            self._members = await look_at_members(strict, tuple(self._wanted.nodes), token)
        if not self._wanted.addresses or self._wanted.from_node:
            return
        for member in self._members.listed[:_ADDRESSES_MAX]:
            if member.cluster_address and self._is_new("port", member.cluster_address):
                await self._look_at_port(member.cluster_address)


def _is_ip(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
