"""
`baoha wait`: block until conditions hold, and say what was missing when they do not.

Rules of this file: it ends early when a condition can no longer become true, and a condition counts
only after it has held for `--stable-for`.

Source: docs/spec/cluster-cli.md sections 2.1 and 3.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from baoha_cli.exits import Profile, Verdict
from baoha_cli.failures import ErrorKind, UsageFailed
from baoha_cli.output.documents import Document
from baoha_cli.shell.command import command, new_group
from baoha_cli.shell.context import Cli
from baoha_cli.shell.environment import duration_s
from baoha_cli.survey.conditions import (
    MEANINGS,
    Condition,
    ConditionOutcome,
    check,
    needs_links,
    parse_conditions,
)

if TYPE_CHECKING:
    from baoha_cli.survey.nodes import ClusterReport

app = new_group("wait", "Wait until the cluster is as it should be.")

DEFAULT_DEADLINE_S: Final = 60.0
# Failures that waiting does not mend; they end the wait only with --fail-fast, since a node that
# is just starting can look like this for a moment too.
_LASTING: Final = frozenset({ErrorKind.TLS, ErrorKind.DNS, ErrorKind.PROTOCOL})

_EPILOG = "With --deadline=0 it looks once. Conditions: " + "; ".join(
    f"{name} ({text})" for name, (_, text) in MEANINGS.items()
)


@command(app, "wait", profile=Profile.DETAILED, timeout_s=3.0, own_deadline=True, epilog=_EPILOG)
async def wait(
    cli: Cli,
    *,
    for_: Annotated[
        list[str] | None,
        typer.Option("--for", metavar="COND", help="What to wait for; repeatable: all must hold."),
    ] = None,
    interval: Annotated[
        str, typer.Option("--interval", metavar="TIME", help="Pause between two looks.")
    ] = "250ms",
    stable_for: Annotated[
        str, typer.Option("--stable-for", metavar="TIME", help="It must hold for so long.")
    ] = "0s",
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Give up on TLS, name and protocol errors.")
    ] = False,
) -> Verdict:
    """Wait until the cluster is as it should be."""
    conditions = parse_conditions(for_ or [])
    if not conditions:
        raise UsageFailed("give at least one --for COND", hint="one of " + ", ".join(MEANINGS))
    limit_s = DEFAULT_DEADLINE_S if cli.deadline_s is None else cli.deadline_s
    pause_s = max(duration_s(interval, what="--interval"), 0.01)
    stable_s = duration_s(stable_for, what="--stable-for")
    if stable_s and stable_s >= limit_s:
        raise UsageFailed(f"--stable-for must be shorter than --deadline ({limit_s:g}s)")
    watch = _Wait(cli, conditions, stable_s=stable_s, fail_fast=fail_fast)
    return await watch.run(limit_s=limit_s, pause_s=pause_s)


class _Wait:
    """One wait: its conditions, what was true at first, and since when they hold."""

    def __init__(
        self, cli: Cli, conditions: tuple[Condition, ...], *, stable_s: float, fail_fast: bool
    ) -> None:
        self._cli = cli
        self._conditions = conditions
        self._stable_s = stable_s
        self._fail_fast = fail_fast
        self._missing = "nothing is known yet"
        self._shown = ""

    async def run(self, *, limit_s: float, pause_s: float) -> Verdict:
        """Look again and again until the end."""
        import trio

        from baoha_cli.survey.round import survey_nodes

        began = trio.current_time()
        held_since: float | None = None
        start: ClusterReport | None = None
        # Without time to wait there is still one look: is it so now?
        with trio.move_on_after(limit_s or float("inf")):
            async with self._cli.client() as client:
                while True:
                    links = needs_links(self._conditions)
                    report = await survey_nodes(client, self._cli.labels, links=links)
                    start = start or report
                    outcome = self._judge(report, start)
                    now = trio.current_time()
                    if outcome.is_final:
                        return self._end(Verdict.IMPOSSIBLE, now - began)
                    held_since = (held_since or now) if outcome.holds else None
                    if held_since is not None and now - held_since >= self._stable_s:
                        return self._end(Verdict.OK, now - began)
                    if not limit_s:
                        break
                    self._show(now - began)
                    await trio.sleep(pause_s)
        return self._end(Verdict.TIMEOUT, limit_s)

    def _judge(self, report: ClusterReport, start: ClusterReport) -> ConditionOutcome:
        if self._fail_fast:
            for node in report.nodes:
                if node.error_kind in _LASTING:
                    self._missing = f"{node.label}: {node.error}"
                    return ConditionOutcome(False, self._missing, True)
        for condition in self._conditions:
            outcome = check(condition, report, start)
            if not outcome.holds:
                self._missing = f"{condition}: {outcome.missing}"
                return outcome
        self._missing = ""
        return ConditionOutcome(True)

    def _show(self, elapsed_s: float) -> None:
        """Say what is missing, whenever that changes, after the first second."""
        if self._missing and self._missing != self._shown and elapsed_s >= 1.0:
            self._shown = self._missing
            self._cli.out.note(f"waiting ({elapsed_s:.0f}s): {self._missing}")

    def _end(self, verdict: Verdict, elapsed_s: float) -> Verdict:
        wanted = ", ".join(str(condition) for condition in self._conditions)
        words = {
            Verdict.OK: f"{wanted}: met after {elapsed_s:.1f}s",
            Verdict.TIMEOUT: f"not met within {elapsed_s:g}s: {self._missing or 'not stable'}",
            Verdict.IMPOSSIBLE: f"cannot become true: {self._missing}",
        }
        data = {
            "schema": "baoha.wait/v1",
            "conditions": [str(condition) for condition in self._conditions],
            "met": verdict is Verdict.OK,
            "final": verdict is Verdict.IMPOSSIBLE,
            "missing": self._missing or None,
            "elapsed_s": round(elapsed_s, 3),
        }
        if verdict is Verdict.OK or not self._cli.out.is_plain:
            self._cli.emit(Document(data, lambda _: words[verdict]))
        if verdict is not Verdict.OK:
            self._cli.out.error(words[verdict])
        return verdict
