"""
`baoha probe`: one raw test of a node, for scripts; no judgement beyond the exit code.

Rules of this file. Each probe asks once, without a token, with GET only. Several addresses are
asked at the same time; the exit code is that of the first one that is not well.

Source: docs/spec/cluster-cli.md sections 3.2 and 6.1.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from baoha_cli.exits import Profile, Verdict
from baoha_cli.failures import ErrorKind
from baoha_cli.output.documents import Document
from baoha_cli.output.gotext import plain_table
from baoha_cli.shell.command import command, new_group
from baoha_cli.shell.context import Cli
from baoha_cli.shell.environment import duration_s
from baoha_cli.text import one_line

if TYPE_CHECKING:
    from baoha_cli.client.address import Endpoint
    from baoha_cli.client.client import Client
    from baoha_cli.survey.look import Reply

app = new_group("probe", "One raw test of a node, for scripts.")

_EPILOG = (
    "Exit codes: 0 yes, 1 no, 2 sealed, 3 degraded (no leader, no forwarding), 4 not initialised, "
    "5 not reachable, 6 TLS failure, 8 no answer in time, 64 usage."
)
_FAILED = {
    ErrorKind.TLS: Verdict.TLS,
    ErrorKind.TIMEOUT: Verdict.TIMEOUT,
    ErrorKind.PROTOCOL: Verdict.NO,
}


@dataclass(frozen=True)
class ProbeOutcome:
    """What one probe of one node came to: a verdict, a word, and what was seen."""

    verdict: Verdict
    word: str
    data: dict[str, object] = field(default_factory=dict)


Probe = Callable[["Client", "Endpoint"], Awaitable[ProbeOutcome]]


@command(app, "health", profile=Profile.DETAILED, timeout_s=3.0, epilog=_EPILOG)
async def health(
    cli: Cli,
    *,
    ready: Annotated[
        bool,
        typer.Option("--ready", help="Ask for more: unsealed, and active or able to forward."),
    ] = False,
) -> Verdict:
    """Ask sys/health: 0 active or standby, 2 sealed, 4 not initialised."""
    return await _run(cli, "health", _ready if ready else _health)


@command(app, "leader", profile=Profile.DETAILED, timeout_s=3.0, epilog=_EPILOG)
async def leader(cli: Cli) -> Verdict:
    """Ask sys/leader: 0 when the node knows a leader."""
    return await _run(cli, "leader", _leader)


@command(app, "forward", profile=Profile.DETAILED, timeout_s=3.0, epilog=_EPILOG)
async def forward(cli: Cli) -> Verdict:
    """Tell how a node passes requests on: 0 when it is active, or forwards."""
    return await _run(cli, "forward", _forward)


@command(app, "redirect", profile=Profile.DETAILED, timeout_s=3.0, epilog=_EPILOG)
async def redirect(cli: Cli) -> Verdict:
    """Walk the redirects of a node without credentials: 0 when they end at an answer."""
    return await _run(cli, "redirect", _redirect)


@command(app, "cluster-port", profile=Profile.DETAILED, timeout_s=3.0, epilog=_EPILOG)
async def cluster_port(
    cli: Cli,
    *,
    cluster_addr: Annotated[
        str | None,
        typer.Option(
            "--cluster-addr",
            metavar="URL",
            help="The cluster address; the one that the node names for its leader when not given.",
        ),
    ] = None,
) -> Verdict:
    """Tell what answers at a cluster address: 0 when it is the active node's listener."""

    async def probe(client: Client, endpoint: Endpoint) -> ProbeOutcome:
        return await _cluster_port(client, endpoint, cluster_addr)

    return await _run(cli, "cluster-port", probe)


@command(app, "tls", profile=Profile.DETAILED, timeout_s=3.0, epilog=_EPILOG)
async def tls(cli: Cli) -> Verdict:
    """Show the certificate of an address: 0 when it verifies, 6 when not."""

    async def probe(_: Client, endpoint: Endpoint) -> ProbeOutcome:
        return await _tls(cli, endpoint)

    return await _run(cli, "tls", probe)


@command(app, "clock", profile=Profile.DETAILED, timeout_s=3.0, epilog=_EPILOG)
async def clock(
    cli: Cli,
    *,
    max_skew: Annotated[
        str, typer.Option("--max-skew", metavar="TIME", help="More than this, for certain, is 1.")
    ] = "1s",
    samples: Annotated[
        int, typer.Option("--samples", min=1, max=50, metavar="N", help="Look so many times.")
    ] = 4,
) -> Verdict:
    """Compare a node's clock with the one here."""
    limit_s = duration_s(max_skew, what="--max-skew")

    async def probe(client: Client, endpoint: Endpoint) -> ProbeOutcome:
        return await _clock(client, endpoint, limit_s, samples)

    return await _run(cli, "clock", probe)


# --- running --------------------------------------------------------------------------------------


async def _run(cli: Cli, name: str, probe: Probe) -> Verdict:
    import trio

    from baoha_cli.client.client import Client
    from baoha_cli.survey.ask import for_given

    outcomes: dict[Endpoint, ProbeOutcome] = {}
    async with Client(for_given(cli.transport)) as client, trio.open_nursery() as nursery:

        async def one(endpoint: Endpoint) -> None:
            outcomes[endpoint] = await probe(client, endpoint)

        for endpoint in cli.labels:
            nursery.start_soon(one, endpoint)
    ordered = [(cli.labels[endpoint], endpoint, outcomes[endpoint]) for endpoint in cli.labels]
    records = [
        {"addr": endpoint.url, "result": outcome.word, "ok": outcome.verdict is Verdict.OK}
        | outcome.data
        for _, endpoint, outcome in ordered
    ]
    data: dict[str, object] = {"schema": f"baoha.probe.{name}/v1", "nodes": records}
    if len(records) == 1:
        data |= records[0]
    rows = [
        (label, one_line(outcome.word), _details(outcome.data)) for label, _, outcome in ordered
    ]
    cli.emit(
        Document(
            data,
            lambda _: plain_table(rows, gap=2),
            rows=[("NODE", "RESULT", "DETAILS"), *rows],
            names=[outcome.word for _, _, outcome in ordered],
            records=records,
        )
    )
    bad = [outcome.verdict for _, _, outcome in ordered if outcome.verdict is not Verdict.OK]
    return bad[0] if bad else Verdict.OK


def _details(data: dict[str, object]) -> str:
    shown = [f"{key}={value}" for key, value in data.items() if value not in (None, "", [])]
    return one_line(" ".join(shown), chars_max=400)


def _failed(reply: Reply) -> ProbeOutcome | None:
    """Return the outcome of a request that brought no answer, or None."""
    if reply.kind is None:
        return None
    verdict = _FAILED.get(reply.kind, Verdict.UNREACHABLE)
    return ProbeOutcome(verdict, reply.kind.value, {"error": reply.error})


# --- the probes -----------------------------------------------------------------------------------


async def _health(client: Client, endpoint: Endpoint) -> ProbeOutcome:
    from baoha_cli.survey.ask import HEALTH, ask

    reply, _ = await ask(client, endpoint, HEALTH)
    failed = _failed(reply)
    if failed is not None:
        return failed
    words = {
        200: (Verdict.OK, "active"),
        429: (Verdict.OK, "standby"),
        472: (Verdict.OK, "disaster recovery secondary"),
        473: (Verdict.OK, "performance standby"),
        474: (Verdict.DEGRADED, "standby without connection to the leader"),
        501: (Verdict.UNINITIALIZED, "not initialised"),
        503: (Verdict.SEALED, "sealed"),
        530: (Verdict.DEGRADED, "removed from the cluster"),
    }
    if "sealed" not in reply.body:
        return ProbeOutcome(Verdict.NO, f"status {reply.status}, not a health answer")
    verdict, word = words.get(reply.status, (Verdict.NO, f"status {reply.status}"))
    took_ms = round(reply.took_s * 1000)
    return ProbeOutcome(verdict, word, {"status": reply.status, "took_ms": took_ms})


async def _ready(client: Client, endpoint: Endpoint) -> ProbeOutcome:
    found = await _health(client, endpoint)
    if found.verdict is not Verdict.OK:
        return found
    link = await _forward(client, endpoint)
    if link.verdict is not Verdict.OK:
        return link
    return ProbeOutcome(Verdict.OK, "ready", {**found.data, "role": found.word})


async def _leader(client: Client, endpoint: Endpoint) -> ProbeOutcome:
    from baoha_cli.client.answer import as_text
    from baoha_cli.survey.ask import LEADER, ask

    reply, _ = await ask(client, endpoint, LEADER)
    failed = _failed(reply)
    if failed is not None:
        return failed
    if reply.status == 503:
        return ProbeOutcome(Verdict.SEALED, "sealed", {"status": 503})
    if reply.status != 200:
        return ProbeOutcome(Verdict.NO, f"status {reply.status}", {"error": reply.words})
    api = as_text(reply.body.get("leader_address"))
    cluster = as_text(reply.body.get("leader_cluster_address"))
    data: dict[str, object] = {
        "is_self": reply.body.get("is_self") is True,
        "leader_address": api or None,
        "leader_cluster_address": cluster or None,
    }
    known = bool(api or cluster) or data["is_self"]
    return ProbeOutcome(Verdict.OK if known else Verdict.DEGRADED, api or "none", data)


async def _forward(client: Client, endpoint: Endpoint) -> ProbeOutcome:
    from baoha_cli.survey.ask import AskOptions, Probe, look_at_node
    from baoha_cli.survey.nodes import Link, SeenRole

    look = await look_at_node(
        client, endpoint, endpoint.netloc, AskOptions(Probe.ALL, product=False)
    )
    failed = _failed(look.seal)
    if failed is not None:
        return failed
    data: dict[str, object] = {
        "plain_status": look.plain.status or None,
        "bare_status": look.bare.status or None,
        "location": one_line(look.bare.location) or None,
        "leader_address": look.report.leader_address or None,
    }
    if look.role is SeenRole.ACTIVE:
        return ProbeOutcome(Verdict.OK, "active", data)
    if look.role in (SeenRole.SEALED, SeenRole.UNINITIALIZED):
        sealed = look.role is SeenRole.SEALED
        return ProbeOutcome(
            Verdict.SEALED if sealed else Verdict.UNINITIALIZED, look.role.value, data
        )
    good = look.link is Link.FORWARD
    return ProbeOutcome(Verdict.OK if good else Verdict.DEGRADED, look.link.value, data)


async def _redirect(client: Client, endpoint: Endpoint) -> ProbeOutcome:
    from baoha_cli.client.client import Client as AnyClient
    from baoha_cli.diagnose.evidence import ChainEnd
    from baoha_cli.diagnose.gather.chains import walk_from
    from baoha_cli.survey.ask import BARE, HA_STATUS, ask, for_strangers

    reply, _ = await ask(client, endpoint, HA_STATUS, headers=BARE)
    failed = _failed(reply)
    if failed is not None:
        return failed
    if not reply.redirects:
        return ProbeOutcome(Verdict.OK, "none", {"status": reply.status})
    async with AnyClient(for_strangers(client.transport)) as bare:
        chain = await walk_from(bare, endpoint, endpoint.netloc, reply)
    data: dict[str, object] = {
        "hops": [hop.location for hop in chain.hops],
        "status": chain.reply.status or None,
        "error": chain.reply.error or None,
    }
    good = chain.end is ChainEnd.ANSWER
    return ProbeOutcome(Verdict.OK if good else Verdict.NO, chain.end.value, data)


async def _cluster_port(client: Client, endpoint: Endpoint, given: str | None) -> ProbeOutcome:
    from baoha_cli.diagnose.evidence import PortKind
    from baoha_cli.diagnose.gather.looks import look_at_port

    address = given
    if address is None:
        found = await _leader(client, endpoint)
        address = str(found.data.get("leader_cluster_address") or "")
        if not address:
            verdict = found.verdict if found.verdict is not Verdict.OK else Verdict.DEGRADED
            return ProbeOutcome(verdict, "no cluster address", found.data)
    look = await look_at_port(address)
    data: dict[str, object] = {
        "cluster_address": one_line(address),
        "detail": look.detail or None,
        "names": list(look.names),
        "alpn": look.speaks or None,
    }
    verdicts = {
        PortKind.ACTIVE: Verdict.OK,
        PortKind.REFUSED: Verdict.UNREACHABLE,
        PortKind.DNS: Verdict.UNREACHABLE,
        PortKind.TIMEOUT: Verdict.TIMEOUT,
    }
    return ProbeOutcome(verdicts.get(look.kind, Verdict.NO), look.kind.value, data)


async def _tls(cli: Cli, endpoint: Endpoint) -> ProbeOutcome:
    from baoha_cli.diagnose.checks.tls import date_text
    from baoha_cli.diagnose.gather.looks import look_at_tls

    if endpoint.scheme != "https":
        return ProbeOutcome(Verdict.TLS, "plain HTTP", {})
    look = await look_at_tls(endpoint, cli.transport.tls)
    if look.kind is not None:
        verdict = _FAILED.get(look.kind, Verdict.UNREACHABLE)
        return ProbeOutcome(verdict, look.kind.value, {"error": look.error})
    data: dict[str, object] = {"version": look.version, "error": look.verify_error or None}
    if look.chain:
        first = look.chain[0]
        data |= {
            "names": list(first.names),
            "issuer": first.issuer,
            "not_after": date_text(first.not_after),
            "days_left": int((first.not_after - look.read_at) // 86_400),
            "chain": len(look.chain),
            "fingerprint": first.fingerprint,
        }
    good = not look.verify_error
    return ProbeOutcome(Verdict.OK if good else Verdict.TLS, "ok" if good else "refused", data)


async def _clock(client: Client, endpoint: Endpoint, limit_s: float, samples: int) -> ProbeOutcome:
    import trio

    from baoha_cli.diagnose.gather.clocks import offset_of
    from baoha_cli.survey.ask import HEALTH, ask
    from baoha_cli.survey.look import NodeLook

    looks = []
    for number in range(samples):
        if number:
            # Seconds tick: looks at different parts of a second narrow the interval.
            await trio.sleep(1.0 / samples)
        reply, _ = await ask(client, endpoint, HEALTH)
        failed = _failed(reply)
        if failed is not None:
            return failed
        looks.append(NodeLook(endpoint, endpoint.netloc, reply, health=reply))
    offset = offset_of(looks)
    if offset is None:
        return ProbeOutcome(Verdict.NO, "unknown", {})
    data: dict[str, object] = {
        "skew_ms": round(offset.middle * 1000),
        "uncertainty_ms": round(offset.uncertainty * 1000),
    }
    good = offset.at_least <= limit_s
    word = f"{offset.middle:+.2f}s ±{offset.uncertainty:.2f}s"
    return ProbeOutcome(Verdict.OK if good else Verdict.NO, word, data)
