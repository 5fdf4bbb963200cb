"""
A checked step-down: look, plan, act, watch, report.

Rules of this file. Nothing is sent before the plan was made and accepted. The token goes to
addresses that were given; when the active node's own is not among them, the request goes through a
standby, and the report says so. Success is what the nodes say afterwards, not the server's 204.

Source: docs/spec/cluster-cli.md sections 0.1 (step-downs) and 3.3.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import trio

from baoha_cli.client.address import Endpoint, same_origin
from baoha_cli.client.client import Client
from baoha_cli.exits import Verdict
from baoha_cli.failures import ApiFailed, CommandFailed, UsageFailed
from baoha_cli.shell.context import Cli, doing
from baoha_cli.survey.ask import LIVE, ask
from baoha_cli.survey.nodes import ClusterReport, Link, NodeReport
from baoha_cli.survey.product import says_baoha
from baoha_cli.survey.watcher import NodeState, Watcher

WAIT_S: Final = 60.0
FOLLOW_S: Final = 5.0


@dataclass(frozen=True)
class Plan:
    """
    What a step-down would do.

    Args:
        active: the node that gives up.
        usable: standbys that could take over.
        unusable: label and reason of the others.
        to: successor asked for; "" leaves the choice to the cluster.
        via: address the request goes to.
        is_direct: whether that is the active node itself.
        is_baoha: whether the server can be told a successor.
    """

    active: NodeReport
    usable: tuple[NodeReport, ...]
    unusable: tuple[tuple[str, str], ...]
    to: str
    via: Endpoint
    is_direct: bool
    is_baoha: bool


@dataclass
class StepDownResult:
    """What came of it; ``*_after_s`` count from ``sent_at``, on trio's clock."""

    old: str
    sent_at: float
    new: str = ""
    gap_s: float | None = None
    service_gap_s: float = 0.0
    lost_after_s: float | None = None
    active_after_s: float | None = None
    follows: dict[str, float] = field(default_factory=dict)
    not_following: list[str] = field(default_factory=list)
    probes_total: int = 0
    probes_failed: int = 0
    probe_errors: dict[str, int] = field(default_factory=dict)

    def as_data(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "schema": "baoha.step-down/v1",
            "old_leader": self.old,
            "new_leader": self.new or None,
            "gap_ms": None if self.gap_s is None else round(self.gap_s * 1000),
            "longest_unanswered_ms": round(self.service_gap_s * 1000),
            "lost_after_ms": _ms(self.lost_after_s),
            "active_after_ms": _ms(self.active_after_s),
            "follows_after_ms": {name: _ms(value) for name, value in self.follows.items()},
            "not_following": self.not_following,
            "probes_total": self.probes_total,
            "probes_failed": self.probes_failed,
            "probe_errors": self.probe_errors,
        }


async def make_plan(
    client: Client, cli: Cli, report: ClusterReport, *, to: str, force: bool
) -> Plan:
    """
    Decide whether and how to step down; sends nothing that changes anything.

    Raises:
        CommandFailed: it must not be done; the text says why.
        UsageFailed: ``to`` is wrong, or the server knows no such thing.
    """
    active = _the_active(report, force=force)
    judged = [(node, _why_unusable(node, active, report)) for node in report.standbys]
    usable = tuple(node for node, why in judged if not why)
    unusable = [(node.label, why) for node, why in judged if why]
    unusable += [
        (node.label, node.role.value if node.reachable else f"cannot be reached: {node.error}")
        for node in report.nodes
        if node is not active and node not in report.standbys
    ]
    if not usable and not force:
        raise CommandFailed(
            "no other unsealed, linked standby is known: stepping down now means a time without an "
            "active node (about 11s with OpenBao)" + _listed(unusable),
            hint="unseal one, give all addresses with --address, or use --force",
        )
    live, _ = await ask(client, active.endpoint, LIVE)
    is_baoha = says_baoha(live)
    if to and (to == active.label or same_origin(active.endpoint, to)):
        raise CommandFailed(f"{to} is the active node already: there is nothing to hand over")
    successor = _successor(to, usable, unusable, is_baoha=is_baoha, force=force)
    given = {endpoint.origin for endpoint in cli.endpoints}
    is_direct = active.endpoint.origin in given
    via = active.endpoint if is_direct else cli.endpoints[0]
    return Plan(active, usable, tuple(unusable), successor, via, is_direct, is_baoha)


async def send_step_down(client: Client, cli: Cli, plan: Plan, *, force: bool) -> None:
    """
    Send the request.

    Raises:
        CommandFailed: the server refused (nothing changed), or the outcome is not known.
    """
    body: dict[str, object] = {}
    if plan.is_baoha:
        body = {"force": force, **({"to": plan.to} if plan.to else {})}
    with doing("stepping down"):
        answer = await client.request(
            plan.via,
            "PUT",
            "/v1/sys/step-down",
            body=json.dumps(body).encode() if body else None,
            token=cli.token,
        )
        try:
            answer.checked()
        except ApiFailed as failure:
            if failure.status == 409:
                failure.verdict = Verdict.NO
            raise


async def step_down_and_watch(
    client: Client,
    cli: Cli,
    plan: Plan,
    report: ClusterReport,
    *,
    force: bool,
    wait_s: float,
    say: Callable[[str], None],
) -> StepDownResult:
    """
    Step down while watching every node, and say what happened.

    Args:
        client: stays open.
        cli: for the token.
        plan: see make_plan.
        report: the nodes as they are.
        force: passed to a baoha server.
        wait_s: how long to wait for an active node.
        say: prints a line of progress.
    """
    watcher = Watcher(client, [node for node in report.nodes if node.reachable])
    async with trio.open_nursery() as nursery:
        await nursery.start(watcher.run)
        result = StepDownResult(plan.active.label, trio.current_time())
        await send_step_down(client, cli, plan, force=force)
        say(f"step-down  sent to {plan.via.url}" + ("" if plan.is_direct else " (a standby)"))
        with trio.move_on_after(wait_s):
            await _wait_for_successor(watcher, plan, result)
        if result.new:
            say(f"           {result.new} active after {_seconds(result.active_after_s)}")
            with trio.move_on_after(FOLLOW_S):
                await _wait_for_followers(watcher, result, say)
        nursery.cancel_scope.cancel()
    _finish(watcher, result)
    return result


async def _wait_for_successor(watcher: Watcher, plan: Plan, result: StepDownResult) -> None:
    old = watcher.states[plan.active.label]
    while True:
        for state in watcher.active_states():
            again = state is old and state.active_time == plan.active.active_time
            if again and old.lost_active_at is None:
                continue  # it has not given up yet
            became_at = state.became_active_at or trio.current_time()
            # From the last answer of the old one that said "active" to the first of the new one.
            last_at = old.last_active_at if old.last_active_at is not None else old.seen_active_at
            result.new = state.label
            result.active_after_s = became_at - result.sent_at
            result.gap_s = max(0.0, became_at - (result.sent_at if last_at is None else last_at))
            return
        await watcher.wait_change()


async def _wait_for_followers(
    watcher: Watcher, result: StepDownResult, say: Callable[[str], None]
) -> None:
    while True:
        new = watcher.states[result.new]
        now = trio.current_time()
        for state in _followers(watcher, result):
            if state.label in result.follows or state.is_active:
                continue
            if state.leader_key and state.leader_key == new.leader_key:
                after_s = now - result.sent_at
                result.follows[state.label] = after_s
                say(f"           {state.label} follows {new.label} after {after_s:.2f} s")
        if all(state.label in result.follows for state in _followers(watcher, result)):
            return
        await watcher.wait_change()


def _followers(watcher: Watcher, result: StepDownResult) -> list[NodeState]:
    return [
        state for state in watcher.states.values() if state.label != result.new and state.reachable
    ]


def _finish(watcher: Watcher, result: StepDownResult) -> None:
    lost_at = watcher.states[result.old].lost_active_at
    result.lost_after_s = None if lost_at is None else lost_at - result.sent_at
    result.not_following = [
        state.label
        for state in _followers(watcher, result)
        if result.new and state.label not in result.follows
    ]
    probes = watcher.probes
    result.probes_total, result.probes_failed = probes.total, probes.failed
    result.probe_errors = probes.errors
    result.service_gap_s = probes.longest_gap_s


def _the_active(report: ClusterReport, *, force: bool) -> NodeReport:
    if not report.actives:
        raise CommandFailed("no active node is known among the addresses given")
    if len(report.actives) > 1 and not force:
        names = ", ".join(node.label for node in report.actives)
        raise CommandFailed(f"more than one node says it is active: {names}")
    return report.actives[0]


def _why_unusable(node: NodeReport, active: NodeReport, report: ClusterReport) -> str:
    """Return why a standby could not take over, or ""."""
    if report.named_leader(node) is not active:
        return "does not see the active node"
    if node.link in (Link.NONE, Link.HANGS):
        return f"its link to the active node is broken ({node.link.value})"
    if _version_key(node.version) < _version_key(active.version):
        return f"its version {node.version} is older than {active.version} (BH-904)"
    return ""


def _successor(
    to: str,
    usable: tuple[NodeReport, ...],
    unusable: list[tuple[str, str]],
    *,
    is_baoha: bool,
    force: bool,
) -> str:
    if not to:
        return ""
    if not is_baoha:
        raise UsageFailed("--to needs a baoha server: this one chooses the next leader by itself")
    for node in usable:
        if to in (node.label, node.endpoint.url) or same_origin(node.endpoint, to):
            return node.endpoint.url
    for label, why in unusable:
        if to == label and not force:
            raise CommandFailed(f"{to} cannot take over: {why}")
    return to  # a node id or host name, which the server knows


def _version_key(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d{1,9}", text.split("+")[0])[:3])


def _listed(unusable: list[tuple[str, str]]) -> str:
    return "".join(f"\n  {label}: {why}" for label, why in unusable)


def _ms(value: float | None) -> int | None:
    return None if value is None else round(value * 1000)


def _seconds(value: float | None) -> str:
    return "an unknown time" if value is None else f"{value:.2f} s"
