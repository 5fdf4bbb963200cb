"""
`baoha status`: one node exactly like `bao status`, or many nodes side by side.

Source: docs/spec/cluster-cli.md section 3.3; `bao status` 2.7.2 for one node.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from baoha_cli.client.answer import as_bool
from baoha_cli.exits import Profile, Verdict
from baoha_cli.failures import CommandFailed
from baoha_cli.output.seal_table import seal_data, seal_document
from baoha_cli.shell.command import command, new_group
from baoha_cli.shell.context import Cli, doing
from baoha_cli.shell.environment import duration_s
from baoha_cli.survey.conditions import Condition, check, parse_conditions
from baoha_cli.survey.table import cluster_data, cluster_document, summary_line

if TYPE_CHECKING:
    from baoha_cli.client.address import Endpoint
    from baoha_cli.survey.judged import Judged
    from baoha_cli.survey.look import NodeLook

app = new_group("status", "Print the state of one node, or of all.")

_EPILOG = (
    "Exit codes with one address: 0 unsealed, 1 error, 2 sealed or not initialised, as `bao`. With "
    "several: 0 well, 2 all sealed, 3 an error, a node that cannot serve, or --expect not "
    "met, 4 not initialised, 5 none reachable."
)


@command(app, "status", profile=Profile.STATUS, timeout_s=3.0, epilog=_EPILOG)
async def status(
    cli: Cli,
    *,
    expect: Annotated[
        list[str] | None,
        typer.Option(
            "--expect",
            metavar="COND",
            help="Exit 3 unless this holds: ready, one-leader, active, standby, unsealed, "
            "all-unsealed, leader, forwarding, same-version, nodes=N. Repeatable.",
        ),
    ] = None,
    watch: Annotated[
        str | None,
        typer.Option(
            "--watch",
            "-w",
            metavar="TIME",
            help="Ask again at this interval (such as 2s): repaint on a terminal, else one line "
            "or record per change.",
        ),
    ] = None,
    discover: Annotated[
        str,
        typer.Option("--discover", metavar="HOW", help="Find the nodes: none, dns or ha-status."),
    ] = "none",
) -> Verdict:
    """Print the state of one node, or of all."""
    conditions = parse_conditions(expect or [])
    endpoints = cli.endpoints
    if discover != "none":
        from baoha_cli.survey.discover import discover as find_nodes

        endpoints = await find_nodes(cli, discover)
    if watch is not None:
        interval_s = duration_s(watch, what="--watch")
        repaint = cli.out.is_terminal and cli.out.is_plain
        return await watch_changes(cli, endpoints, interval_s, conditions, repaint=repaint)
    if len(endpoints) == 1 and not conditions:
        return await _one(cli)
    from baoha_cli.diagnose.judge import judge_round
    from baoha_cli.survey.round import look_round

    judged = judge_round(await look_round(cli, endpoints=endpoints))
    if cli.profile is Profile.STATUS and cli.shared.exit_codes is None:
        cli.profile = Profile.DETAILED  # bao has no status of several nodes to be compatible with
    cli.emit(cluster_document(judged, cli.out.paint))
    return _judge(cli, judged, conditions)


async def _one(cli: Cli) -> Verdict:
    with doing("checking seal status"):
        seal = (await cli.call("GET", "sys/seal-status", with_token=False)).mapping()
    with doing("checking leader status"):
        answer = await cli.call("GET", "sys/leader", with_token=False, accept=(503,))
    if as_bool(seal.get("sealed")) is None:
        raise CommandFailed(
            "Error checking seal status: the answer is not a seal status", verdict=Verdict.API
        )
    leader = answer.mapping() if answer.status == 200 else {}
    # A sealed node of an HA store answers 503 here; without HA it says {"ha_enabled": false}.
    ha_enabled = leader.get("ha_enabled") is True or answer.status == 503
    data = seal_data(seal, leader, ha_enabled)
    cli.emit(seal_document(data))
    if seal.get("initialized") is False:
        return Verdict.UNINITIALIZED
    if seal["sealed"]:
        return Verdict.SEALED
    if ha_enabled and not leader.get("is_self") and not leader.get("leader_address"):
        cli.out.note("warning: this standby knows no leader")
        return Verdict.DEGRADED
    return Verdict.OK


def _judge(cli: Cli, judged: Judged, conditions: tuple[Condition, ...]) -> Verdict:
    for condition in conditions:
        outcome = check(condition, judged.report, judged.report)
        if not outcome.holds:
            cli.out.error(f"expected {condition}: {outcome.missing}")
            return Verdict.EXPECTATION
    # With conditions, they alone decide: that is what the caller wanted to know.
    return Verdict.OK if conditions else judged.verdict


async def watch_changes(
    cli: Cli,
    endpoints: tuple[Endpoint, ...],
    interval_s: float,
    conditions: tuple[Condition, ...] = (),
    *,
    repaint: bool = False,
) -> Verdict:
    """
    Ask again and again, and print what changed; ends by Ctrl-C, or at the deadline.

    Args:
        cli: for transport and output.
        endpoints: the nodes.
        interval_s: pause between two looks.
        conditions: end with EXPECTATION as soon as one does not hold.
        repaint: clear the screen and print the whole table each time.
    """
    import trio

    from baoha_cli.client.address import labels
    from baoha_cli.diagnose.judge import judge_round
    from baoha_cli.survey.ask import AskOptions, look_at_nodes

    named = labels(endpoints)
    before: object = None
    looks: tuple[NodeLook, ...] = ()
    async with cli.client() as client:
        while True:
            looks = await look_at_nodes(client, named, AskOptions(), before=looks)
            judged = judge_round(looks)
            state = [_watched(judged, look) for look in looks]
            if repaint:
                table = cli.out.render(cluster_document(judged, cli.out.paint))
                cli.out.write(f"\x1b[H\x1b[2J{table}")
            elif state != before:
                _print_change(cli, judged)
            before = state
            if conditions and _judge(cli, judged, conditions) is not Verdict.OK:
                return Verdict.EXPECTATION
            await trio.sleep(max(interval_s, 0.05))


def _watched(judged: Judged, look: NodeLook) -> tuple[object, ...]:
    """Return what counts as a change; latency and clock do not."""
    node = look.report
    return (node.reachable, node.role, node.link, judged.report.leader_label(node), node.version)


def _print_change(cli: Cli, judged: Judged) -> None:
    at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if cli.out.is_plain:
        cli.out.say(f"{at} {summary_line(judged, cli.out.paint)}")
        return
    document = cluster_document(judged, cli.out.paint)
    data = {**cluster_data(judged), "at": at}
    cli.emit(replace(document, data=data, records=[data]))
