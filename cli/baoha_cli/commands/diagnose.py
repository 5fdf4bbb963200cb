"""
`baoha diagnose`: the commands.

Rules of this file. No token is used unless --token-file was given: one in the environment or in the
home directory does not count here. `diagnose config` uses no network.

Source: docs/spec/cluster-cli.md sections 3.2 and 3.3.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from baoha.diagnostics.code import Seen, Severity
from baoha_cli.exits import Profile, Verdict
from baoha_cli.failures import UsageFailed
from baoha_cli.shell.command import command, new_group
from baoha_cli.shell.context import Cli
from baoha_cli.shell.environment import duration_s

if TYPE_CHECKING:
    from baoha.diagnostics.code import Finding
    from baoha_cli.diagnose.run import Choice, Diagnosis

app = new_group("diagnose", "Find what is wrong, say why and how to mend it.")

_EPILOG = (
    "Exit codes: 0 nothing at or above --fail-on, 1 something (or, with all checks, a node "
    "that cannot serve), 2 all nodes sealed, 4 not initialised, 5 no node reachable, 6 TLS "
    "failure, 8 --deadline passed, 64 usage. No token is "
    "sent unless --token-file is given. Codes: baoha diagnose list."
)
_SUMMARIES: Final = {
    "addresses": "Check addresses, names, forwarding, redirects and the cluster port.",
    "forwarding": "Check forwarding and redirects only.",
    "tls": "Check the certificate and TLS of every address.",
    "lb": "Check what a load balancer (--via) does with this cluster.",
    "clock": "Compare the clocks of the nodes.",
    "all": "Run every check.",
}
# Kinds of reports that --output takes; json and ndjson are the shared ones.
REPORTS: Final = ("junit", "github", "gitlab", "tap", "tap13", "nagios", "prometheus")
_POINTS: Final = ("local", "node")

Via = Annotated[
    list[str] | None,
    typer.Option("--via", metavar="URL", help="A load balancer to sample; repeatable."),
]
Configs = Annotated[
    list[str] | None,
    typer.Option(
        "--config", metavar="FILE", help="Also check these configuration files; repeatable."
    ),
]
Point = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="WHERE",
        help="local: advertised addresses must work from here too; node: only what the nodes "
        "themselves see.",
    ),
]
Facts = Annotated[
    bool, typer.Option("--facts", help="Also print what is true of healthy clusters.")
]
Watch = Annotated[
    str, typer.Option("--watch", metavar="TIME", help="Look for so long, for leader changes.")
]
Settle = Annotated[
    str,
    typer.Option(
        "--settle", metavar="TIME", help="What could be an election must last so long to count."
    ),
]
Slow = Annotated[str, typer.Option("--slow", metavar="TIME", help="What counts as a slow answer.")]
NoNoise = Annotated[
    bool,
    typer.Option(
        "--no-audit-noise",
        help="Leave out the probes that the active node may write into its audit log.",
    ),
]
Only = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="CODE", help="Only these codes (BH-3*); repeat or comma list."),
]
Skip = Annotated[
    list[str] | None,
    typer.Option("--skip", metavar="CODE", help="Not these codes; repeat or comma list."),
]
FailOn = Annotated[
    str,
    typer.Option("--fail-on", metavar="SEVERITY", help="Fail from error, warning or info on."),
]
Reports = Annotated[
    list[str] | None,
    typer.Option(
        "--report",
        metavar="KIND=PATH",
        help="Also write a report: json, ndjson, junit, github, gitlab, tap, tap13, nagios, "
        "prometheus or baseline; repeatable.",
    ),
]
Baseline = Annotated[
    str | None,
    typer.Option("--baseline", metavar="FILE", help="Known findings: shown, and do not count."),
]


@dataclass(frozen=True)
class _Looks:
    """Options of the commands that ask nodes."""

    via: tuple[str, ...]
    point: str
    settle_s: float
    watch_s: float
    slow_s: float
    noise: bool


def _declare(area: str) -> None:
    """Declare the command of one area; all take the same options."""

    async def diagnose(
        cli: Cli,
        *,
        via: Via = None,
        config: Configs = None,
        point: Point = "local",
        only: Only = None,
        skip: Skip = None,
        fail_on: FailOn = "error",
        facts: Facts = False,
        watch: Watch = "0s",
        settle: Settle = "3s",
        slow: Slow = "500ms",
        no_audit_noise: NoNoise = False,
        report: Reports = None,
        baseline: Baseline = None,
    ) -> Verdict:
        if point not in _POINTS:
            raise UsageFailed(f"--from: {point[:40]!a} is not local or node")
        if area == "lb" and not via:
            raise UsageFailed("give the load balancer's address with --via URL")
        choice = _choice(area, only, skip, fail_on, baseline, facts=facts)
        looks = _Looks(
            tuple(via or ()),
            point,
            duration_s(settle, what="--settle"),
            duration_s(watch, what="--watch"),
            duration_s(slow, what="--slow"),
            not no_audit_noise,
        )
        return await _ask(cli, choice, looks, config or [], report or [])

    diagnose.__doc__ = _SUMMARIES[area]
    command(app, area, profile=Profile.DETAILED, timeout_s=3.0, epilog=_EPILOG, reports=REPORTS)(
        diagnose
    )


for _area in _SUMMARIES:
    _declare(_area)


@command(app, "config", profile=Profile.DETAILED, epilog=_EPILOG, reports=REPORTS)
def check_config(
    cli: Cli,
    *,
    config: Annotated[
        list[str] | None,
        typer.Option("--config", metavar="FILE", help="File or directory of one node; repeatable."),
    ] = None,
    files: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE]...", help="The same.")
    ] = None,
    only: Only = None,
    skip: Skip = None,
    fail_on: FailOn = "error",
    report: Reports = None,
    baseline: Baseline = None,
) -> Verdict:
    """Check configuration files (HCL, JSON, TOML), without a network."""
    from time import monotonic

    from baoha_cli.diagnose.run import assemble, skipped

    given = [*(config or []), *(files or [])]
    if not given:
        raise UsageFailed("give configuration files: --config FILE, one per node")
    _choose_profile(cli)
    choice = _choice("config", only, skip, fail_on, baseline)
    began = monotonic()
    found, count = _judge_files(cli, given, choice)
    not_looked_for = skipped(choice, frozenset({Seen.FILE}))
    result = assemble(found, choice, not_looked_for, took_s=monotonic() - began, nodes_total=count)
    return _finish(cli, result, report or [])


@command(app, "list", profile=Profile.DETAILED)
def list_checks(cli: Cli, *, only: Only = None) -> Verdict:
    """List all checks."""
    from baoha_cli.manual.codes import catalogue_document

    cli.emit(catalogue_document(_patterns(only)))
    return Verdict.OK


@command(app, "explain", profile=Profile.DETAILED)
def explain_code(
    cli: Cli, *, code: Annotated[str, typer.Argument(metavar="CODE", help="Such as BH-401.")]
) -> Verdict:
    """Explain one check in full."""
    from baoha_cli.manual.codes import explanation_document

    cli.emit(explanation_document(code))
    return Verdict.OK


# --- what the commands share ----------------------------------------------------------------------


def _choose_profile(cli: Cli) -> None:
    """Give Nagios its own exit codes, also when the command ends early."""
    if cli.report == "nagios" and cli.shared.exit_codes is None:
        cli.profile = Profile.NAGIOS


def _choice(
    area: str,
    only: Sequence[str] | None,
    skip: Sequence[str] | None,
    fail_on: str,
    baseline: str | None,
    *,
    facts: bool = False,
) -> Choice:
    from baoha_cli.diagnose.report.formats import read_baseline
    from baoha_cli.diagnose.run import Choice

    try:
        severity = Severity(fail_on.lower())
    except ValueError:
        raise UsageFailed(f"--fail-on: {fail_on[:40]!a} is not error, warning or info") from None
    known = read_baseline(Path(baseline)) if baseline else frozenset()
    return Choice(area, _patterns(only), _patterns(skip), facts, severity, known)


def _patterns(given: Sequence[str] | None) -> tuple[str, ...]:
    """
    Read patterns of codes; one that fits no code is a mistake.

    Raises:
        UsageFailed: no code fits.
    """
    from baoha.diagnostics.catalogue import CODES, matches

    found = tuple(part.strip() for text in given or () for part in text.split(",") if part.strip())
    for pattern in found:
        if not any(matches(code, (pattern,)) for code in CODES.values()):
            raise UsageFailed(f"{pattern[:40]!a} fits no check", hint="baoha diagnose list")
    return found


def _judge_files(cli: Cli, given: Sequence[str], choice: Choice) -> tuple[list[Finding], int]:
    from baoha_cli.diagnose.checks.config import check, check_certificates, read_configs
    from baoha_cli.diagnose.judgement import drop_explained
    from baoha_cli.survey.ask import time_of_day

    # The environment here belongs to one node at most.
    environ = cli.environ if len(given) == 1 else {}
    configs = read_configs([Path(text) for text in given], environ)
    found = [*check(configs), *check_certificates(configs, time_of_day())]
    settled = drop_explained(item for item in found if choice.considers(item.code))
    return [item for item in settled if choice.wants(item.code)], len(configs)


async def _ask(
    cli: Cli, choice: Choice, looks: _Looks, files: Sequence[str], reports: Sequence[str]
) -> Verdict:
    import trio

    from baoha_cli.client.address import labels, parse_addresses
    from baoha_cli.diagnose.gather.gather import Wanted, gather
    from baoha_cli.diagnose.judge import may_be_election
    from baoha_cli.diagnose.run import conclude
    from baoha_cli.survey.ask import AskOptions, Probe

    _choose_profile(cli)
    vias = parse_addresses(looks.via)
    wanted = Wanted(
        nodes=cli.labels,
        transport=cli.transport,
        vias=labels(vias),
        token=cli.token if cli.shared.token_file is not None else None,
        options=AskOptions(Probe.ALL if looks.noise else Probe.NONE),
        addresses=choice.tries_addresses,
        from_node=looks.point == "node",
        settle_s=looks.settle_s,
        watch_s=looks.watch_s,
        slow_s=looks.slow_s,
        proxies=_proxies(cli),
    )
    began = trio.current_time()
    evidence = await gather(wanted, may_be_election, _progress(cli))
    took_s = trio.current_time() - began
    result = conclude(evidence, choice, noise=looks.noise, took_s=took_s, files=bool(files))
    if files:
        from dataclasses import replace

        found, _ = _judge_files(cli, files, choice)
        result = replace(result, faults=(*result.faults, *found))
    return _finish(cli, result, reports)


def _progress(cli: Cli) -> Callable[[str], None]:
    """Say on stderr that it takes longer, to people only."""
    return cli.out.note if cli.out.is_terminal else cli.verbose


def _proxies(cli: Cli) -> tuple[str, ...]:
    names = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
    return tuple(
        name
        for name in (*names, *(name.lower() for name in names))
        if cli.environ.get(name) and not cli.shared.proxy
    )


def _finish(cli: Cli, result: Diagnosis, reports: Sequence[str]) -> Verdict:
    """Print, write the reports, and say what it comes to."""
    from baoha_cli.diagnose.report.formats import (
        nagios_verdict,
        parse_reports,
        render,
        write_reports,
    )
    from baoha_cli.diagnose.report.text import document
    from baoha_cli.survey.ask import time_of_day

    wanted = parse_reports(reports)
    now = time_of_day()
    if cli.report:
        if not cli.shared.quiet:
            cli.out.write(render(cli.report, result, now))
    else:
        cli.emit(document(result, cli.out.paint))
    write_reports(wanted, result, now)
    if cli.profile is Profile.NAGIOS:
        return nagios_verdict(result)
    return result.verdict
