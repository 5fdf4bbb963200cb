"""
`baoha step-down`: hand active duty over, checked before and watched after.

Source: docs/spec/cluster-cli.md section 3.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from baoha_cli.exits import Verdict
from baoha_cli.failures import CommandFailed
from baoha_cli.output.documents import Document
from baoha_cli.shell.command import command, new_group
from baoha_cli.shell.context import Cli
from baoha_cli.shell.environment import duration_s

if TYPE_CHECKING:
    from baoha_cli.client.address import Endpoint
    from baoha_cli.operate.handover import Plan, StepDownResult
    from baoha_cli.survey.nodes import ClusterReport

app = new_group("step-down", "Hand active duty over to another node.")

_EPILOG = (
    "With --wait the exit code is 0 only if another node is active (with --any also the same one) "
    "and every reachable node follows it within 5s; 1 if not."
)


@command(app, "step-down", timeout_s=15.0, own_deadline=True, epilog=_EPILOG)
async def step_down(
    cli: Cli,
    *,
    to: Annotated[
        str, typer.Option("--to", metavar="NODE", help="Successor; baoha servers only.")
    ] = "",
    wait: Annotated[
        bool, typer.Option("--wait", help="Watch all nodes, measure the gap, say who follows.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Stop after the plan.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Even without a standby that could take over.")
    ] = False,
    any_: Annotated[
        bool, typer.Option("--any", help="With --wait: the same node again is fine too.")
    ] = False,
    max_gap: Annotated[
        str | None,
        typer.Option("--max-gap", metavar="TIME", help="With --wait: exit 1 if it takes longer."),
    ] = None,
) -> Verdict:
    """Hand active duty over to another node."""
    from baoha_cli.operate import handover
    from baoha_cli.survey.round import survey_nodes

    limit_s = None if max_gap is None else duration_s(max_gap, what="--max-gap")
    wait_s = handover.WAIT_S if cli.deadline_s is None else cli.deadline_s
    async with cli.client() as client:
        named = await _all_nodes(cli)
        report = await survey_nodes(client, named)
        plan = await handover.make_plan(client, cli, report, to=to, force=force)
        _show_plan(cli, report, plan)
        if dry_run:
            cli.emit(_plan_document(report, plan))
            return Verdict.OK
        cli.confirm(f"Step down {plan.active.label}?")
        if not wait and limit_s is None:
            await handover.send_step_down(client, cli, plan, force=force)
            cli.out.say(f"Success! Stepped down: {plan.active.endpoint.url}")
            cli.out.note("(not verified: give --wait to watch the nodes)")
            return Verdict.OK
        result = await handover.step_down_and_watch(
            client, cli, plan, report, force=force, wait_s=wait_s, say=cli.out.note
        )
    cli.emit(Document(result.as_data(), lambda _: _result_text(result)))
    return _judge(cli, result, same_is_fine=any_, limit_s=limit_s)


async def _all_nodes(cli: Cli) -> dict[Endpoint, str]:
    """With one address given, the others are found by the operator's token, where it can."""
    from baoha_cli.client.address import labels
    from baoha_cli.survey.discover import discover

    endpoints = cli.endpoints
    if len(endpoints) == 1 and cli.token is not None:
        try:
            endpoints = await discover(cli, "ha-status")
        except CommandFailed as failure:
            cli.out.note(f"warning: cannot find the other nodes: {failure.message.splitlines()[0]}")
    return labels(endpoints)


def _show_plan(cli: Cli, report: ClusterReport, plan: Plan) -> None:
    usable = " ".join(node.label for node in plan.usable) or "NONE"
    cli.out.note(
        f"pre-check  {len(report.nodes)} nodes, active {plan.active.label}, "
        f"usable standbys {usable}"
    )
    for label, why in plan.unusable:
        cli.out.note(f"           {label}: {why}")
    if plan.to:
        cli.out.note(f"           successor {plan.to}")


def _plan_document(report: ClusterReport, plan: Plan) -> Document:
    data = {
        "schema": "baoha.step-down-plan/v1",
        "nodes_total": len(report.nodes),
        "active": plan.active.label,
        "usable": [node.label for node in plan.usable],
        "unusable": [{"node": label, "why": why} for label, why in plan.unusable],
        "to": plan.to or None,
        "via": plan.via.url,
        "direct": plan.is_direct,
        "server": "baoha" if plan.is_baoha else "other",
    }
    target = f" to {plan.to}" if plan.to else ""
    text = f"would step down {plan.active.label}{target}, asking {plan.via.url}; nothing was sent"
    return Document(data, lambda _: text)


def _result_text(result: StepDownResult) -> str:
    probes = f"{result.probes_failed} of {result.probes_total} probe requests failed"
    if not result.new:
        return f"result     {result.old} → NONE, no active node; {probes}"
    gap = "an unknown time" if result.gap_s is None else f"{result.gap_s:.2f} s"
    return f"result     {result.old} → {result.new}, {gap} without an active node, {probes}"


def _judge(
    cli: Cli, result: StepDownResult, *, same_is_fine: bool, limit_s: float | None
) -> Verdict:
    problems = []
    if not result.new:
        problems.append("no node became active")
    elif result.new == result.old and not same_is_fine:
        problems.append(f"{result.old} is active again: nobody else took over")
    if result.not_following:
        problems.append(f"{', '.join(result.not_following)} did not follow within 5s")
    if limit_s is not None and result.gap_s is not None and result.gap_s > limit_s:
        problems.append(f"the gap of {result.gap_s:.2f}s is longer than {limit_s:g}s")
    for problem in problems:
        cli.out.error(f"FAIL {problem}")
    return Verdict.NO if problems else Verdict.OK
