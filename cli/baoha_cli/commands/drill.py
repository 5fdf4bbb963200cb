"""
`baoha drill`: break the leader on purpose, and measure what clients notice.

Rules of this file. Nothing is broken without --i-know, and not before every node was seen to work.
The command given with --kill is the operator's own and runs in a shell, as the operator.

Source: docs/spec/cluster-cli.md section 3.3.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from baoha_cli.exits import Profile, Verdict
from baoha_cli.failures import CommandFailed, UsageFailed
from baoha_cli.output.documents import Document
from baoha_cli.shell.command import command, new_group
from baoha_cli.shell.context import Cli
from baoha_cli.shell.environment import duration_s

if TYPE_CHECKING:
    from baoha_cli.client.client import Client
    from baoha_cli.operate.drill_report import DrillResult
    from baoha_cli.survey.nodes import ClusterReport

app = new_group("drill", "Break the leader on purpose, and measure what clients notice.")

_EPILOG = (
    "Writes a counter through every node, to keys of its own below --mount (KV version 2), and "
    "deletes them afterwards. Exit codes: 0 all is well again within --max-gap and nothing is "
    "lost, 1 not so, 7 no token, 8 not well again in time, 64 usage."
)
_REPORTS: Final = ("junit", "json")
_OUTPUT_CHARS_MAX: Final = 2000

Know = Annotated[bool, typer.Option("--i-know", help="Yes, interrupt this cluster.")]
Mount = Annotated[str, typer.Option("--mount", metavar="PATH", help="A KV version 2 engine.")]
MaxGap = Annotated[
    str | None, typer.Option("--max-gap", metavar="TIME", help="Exit 1 if a gap is longer.")
]
Interval = Annotated[
    str, typer.Option("--interval", metavar="TIME", help="Between two writes through one node.")
]
Warmup = Annotated[
    str, typer.Option("--warmup", metavar="TIME", help="All must work for so long first.")
]
Calm = Annotated[
    str, typer.Option("--calm", metavar="TIME", help="Over when all worked for so long.")
]
Limit = Annotated[str, typer.Option("--duration", metavar="TIME", help="Over at the latest.")]
Report = Annotated[
    list[str] | None,
    typer.Option("--report", metavar="KIND=PATH", help="junit=PATH or json=PATH; repeatable."),
]


@dataclass(frozen=True)
class _Plan:
    """The options of a drill, read."""

    mount: str
    max_gap_s: float | None
    interval_s: float
    warmup_s: float
    calm_s: float
    limit_s: float
    reports: tuple[tuple[str, Path], ...]


@command(
    app, "failover", profile=Profile.DETAILED, timeout_s=2.0, epilog=_EPILOG, reports=("junit",)
)
async def failover(
    cli: Cli,
    *,
    i_know: Know = False,
    kill: Annotated[
        str | None,
        typer.Option("--kill", metavar="CMD", help="Breaks the leader; without it, you do."),
    ] = None,
    mount: Mount = "secret",
    max_gap: MaxGap = None,
    interval: Interval = "25ms",
    warmup: Warmup = "2s",
    calm: Calm = "3s",
    duration: Limit = "60s",
    report: Report = None,
) -> Verdict:
    """Write through every node while the leader is broken."""
    plan = _plan(mount, max_gap, interval, warmup, calm, duration, report)
    _must_know(i_know)

    async def break_leader(client: Client, seen: ClusterReport) -> None:
        if kill is None:
            await _await_change(cli, client, seen)
        else:
            cli.out.note("running the command that breaks the leader ...")
            await _run_command(cli, kill)

    return await _drill(cli, "failover", plan, break_leader)


@command(
    app, "step-down", profile=Profile.DETAILED, timeout_s=2.0, epilog=_EPILOG, reports=("junit",)
)
async def step_down(
    cli: Cli,
    *,
    i_know: Know = False,
    mount: Mount = "secret",
    max_gap: MaxGap = None,
    interval: Interval = "25ms",
    warmup: Warmup = "2s",
    calm: Calm = "3s",
    duration: Limit = "60s",
    report: Report = None,
) -> Verdict:
    """Write through every node while the leader steps down."""
    plan = _plan(mount, max_gap, interval, warmup, calm, duration, report)
    _must_know(i_know)

    async def ask_leader(client: Client, seen: ClusterReport) -> None:
        active = seen.active
        assert active is not None
        cli.out.note(f"stepping down {active.label} ...")
        answer = await client.request(
            active.endpoint, "PUT", "/v1/sys/step-down", token=cli.token, timeout_s=30.0
        )
        answer.checked()

    return await _drill(cli, "step-down", plan, ask_leader)


async def _drill(
    cli: Cli,
    action: str,
    plan: _Plan,
    break_leader: Callable[[Client, ClusterReport], Awaitable[None]],
) -> Verdict:
    from uuid import uuid4

    import trio

    from baoha_cli.operate.drill_load import Drill, Load
    from baoha_cli.operate.drill_report import DrillResult
    from baoha_cli.survey.round import survey_nodes

    token = cli.token
    if token is None:
        raise CommandFailed("a drill writes: give a token", verdict=Verdict.DENIED)
    began = trio.current_time()
    async with cli.client() as client:
        before = await survey_nodes(client, cli.labels)
        active = before.active
        if active is None or not before.agrees:
            raise CommandFailed("there is no one leader that all nodes follow: nothing was broken")
        load = Load(
            nodes=cli.labels,
            token=token,
            mount=plan.mount,
            folder=f"baoha-drill-{uuid4().hex[:12]}",
            interval_s=plan.interval_s,
            warmup_s=plan.warmup_s,
            calm_s=plan.calm_s,
            limit_s=plan.limit_s,
            leader=active.label,
        )
        drill = Drill(client, load)
        cli.out.note(f"writing through {len(before.nodes)} nodes, leader {active.label} ...")
        await drill.run(lambda: break_leader(client, before))
        after = await survey_nodes(client, cli.labels)
        await drill.clean_up()
    result = DrillResult(
        action=action,
        logs=tuple(drill.logs.values()),
        old=active.label,
        new=after.active.label if after.active else "",
        max_gap_s=plan.max_gap_s,
        took_s=trio.current_time() - began,
    )
    _finish(cli, plan, result)
    return result.verdict


def _finish(cli: Cli, plan: _Plan, result: DrillResult) -> None:
    from baoha_cli.operate.drill_report import text_of
    from baoha_cli.output.gotext import pretty_json
    from baoha_cli.output.junit import render_junit
    from baoha_cli.output.report_files import write_text
    from baoha_cli.survey.ask import time_of_day

    data = result.as_data()
    xml = render_junit(
        f"baoha drill {result.action}", result.junit_cases(), result.took_s, time_of_day()
    )
    if cli.report == "junit":
        cli.out.write(xml)
    else:
        cli.emit(
            Document(
                data,
                lambda _: text_of(result),
                names=[result.new],
                records=[log.as_data() for log in result.logs],
            )
        )
    for kind, path in plan.reports:
        write_text(path, xml if kind == "junit" else pretty_json(data) + "\n")


def _must_know(i_know: bool) -> None:
    if not i_know:
        raise UsageFailed(
            "a drill interrupts the cluster, and writes to it: give --i-know to go on"
        )


def _plan(
    mount: str,
    max_gap: str | None,
    interval: str,
    warmup: str,
    calm: str,
    duration: str,
    report: list[str] | None,
) -> _Plan:
    wanted = []
    for text in report or []:
        kind, sign, path = text.partition("=")
        if kind not in _REPORTS or not sign or not path:
            raise UsageFailed(f"--report: {text[:80]!a} is not junit=PATH or json=PATH")
        wanted.append((kind, Path(path)))
    if not mount.strip("/"):
        raise UsageFailed("--mount must not be empty")
    return _Plan(
        mount.strip("/"),
        None if max_gap is None else duration_s(max_gap, what="--max-gap"),
        max(duration_s(interval, what="--interval"), 0.001),
        max(duration_s(warmup, what="--warmup"), 0.1),
        duration_s(calm, what="--calm"),
        duration_s(duration, what="--duration"),
        tuple(wanted),
    )


async def _await_change(cli: Cli, client: Client, seen: ClusterReport) -> None:
    """Wait until the leader that was seen leads no more: somebody else breaks it."""
    import trio

    from baoha_cli.survey.round import survey_nodes

    assert seen.active is not None
    cli.out.note(f"break {seen.active.label} now ...")
    while True:
        now = await survey_nodes(client, cli.labels, links=False)
        if now.active is None or now.active.label != seen.active.label:
            return
        await trio.sleep(0.1)


async def _run_command(cli: Cli, line: str) -> None:
    """
    Run the operator's command.

    Raises:
        CommandFailed: it failed, or there is no shell.
    """
    import subprocess

    import trio

    try:
        done = await trio.run_process(
            ["/bin/sh", "-c", line],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
    except (OSError, subprocess.SubprocessError, ValueError) as exc:
        raise CommandFailed("the command of --kill cannot be run", verdict=Verdict.LOCAL) from exc
    if done.returncode != 0:
        from baoha_cli.text import one_line

        said = (done.stderr or done.stdout or b"").decode("utf-8", "replace")
        raise CommandFailed(
            f"the command of --kill ended with {done.returncode}: "
            f"{one_line(said, chars_max=_OUTPUT_CHARS_MAX)}"
        )
