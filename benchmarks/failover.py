"""
How long a cluster does not answer when its active node goes away, and what that costs.

    python -m benchmarks.failover                              baoha and OpenBao, all events
    python -m benchmarks.failover --events step-down,SIGKILL --repeat 10 baoha-sqlite openbao-raft

Rules of this file:

1. All clusters meet the same load and the same events, one cluster after the other on the same
   machine; nothing else runs beside them.
2. Nothing is left out of the table: an event that did not go as it should is a line of its own.

Theory of operation. A steady load writes and reads through every node (``testbed.load``); the
event is done to the active node N times; ``testbed.records`` says how long each surviving node
answered no write, which requests failed, and whether anything acknowledged was lost.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import trio

from benchmarks.tables import table
from testbed.clusters import Cluster, LabError, run_cluster
from testbed.descriptions import Description, DescriptionError, load_description
from testbed.events import EVENTS, Event, Happening, happen
from testbed.http import RequestFailed
from testbed.load import Load, LoadPlan, Target, run_load
from testbed.records import Damage, NodeGap, Record, failures, gaps, sent_between, stale_reads

DEFAULT_CLUSTERS = ("baoha-sqlite", "openbao-raft", "openbao-postgresql")
# Longest that one event may take, with recovery and restart.
EVENT_S_MAX = 240.0
TIMEOUT_S = 30.0
# Load before the event that belongs to the window.
BASELINE_S = 0.5
# Standbys that read for themselves may be late; what they lack after this is reported.
READ_BACK_AFTER_S = 3.0
HEADS = (
    "cluster",
    "event",
    "n",
    "gap median ms",
    "gap max ms",
    "wait median ms",
    "wait max ms",
    "requests",
    "failed on survivors",
    "failed on the node",
    "lost",
    "stale",
    "twice",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repetition:
    """One event and its aftermath; the gap is that of the slowest survivor."""

    gap_s: float | None
    wait_s: float | None
    gaps: list[NodeGap]
    requests: int
    failed_on_survivors: dict[str, int]
    failed_on_victim: dict[str, int]
    stale: int
    victim: int
    trouble: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """All repetitions of one event on one cluster."""

    cluster: str
    event: str
    repetitions: list[Repetition]
    damage: Damage
    failed_in_all: dict[str, int]
    trouble: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """How often an event happens, and how long nothing happens before each."""

    repeat: int
    calm_s: float


async def measure(
    description: Description,
    events: Sequence[Event],
    series: Series,
    plan: LoadPlan,
    keep: Path | None = None,
) -> list[Result]:
    """
    Measure one cluster.

    Args:
        keep: where the cluster's files stay; else they are removed.

    Raises:
        LabError: it does not come up.
    """
    results: list[Result] = []
    folder = None
    if keep is not None:
        folder = keep / description.name.replace(" ", "-")
        folder.mkdir(parents=True)
    async with run_cluster(description, folder=folder) as cluster:
        for event in events:
            _say(f"{cluster.name}: {event.name} x {series.repeat}")
            results.append(await _measure_event(cluster, event, series, plan))
            if results[-1].trouble:
                break  # the cluster is not well: what follows would not be comparable
    return results


async def _measure_event(cluster: Cluster, event: Event, series: Series, plan: LoadPlan) -> Result:
    targets = [Target(node.host, node.port) for node in cluster.nodes]
    happenings: list[Happening] = []
    trouble: list[str] = []
    own_plan = LoadPlan(
        clients=plan.clients,
        writes_per_s=plan.writes_per_s,
        reads_per_s=plan.reads_per_s,
        timeout_s=plan.timeout_s,
        prefix=event.name,
    )
    async with run_load(targets, cluster.root_token, own_plan) as load:
        for _ in range(series.repeat):
            try:
                with trio.fail_after(EVENT_S_MAX):
                    happenings.append(await happen(cluster, event, calm_s=series.calm_s))
            except LabError as error:
                _say(str(error))
                trouble.append(error.summary)
                break
            except trio.TooSlowError:
                trouble.append(f"not over within {EVENT_S_MAX:g} s")
                break
    return Result(
        cluster=cluster.name,
        event=event.name,
        repetitions=[_repetition(load.records, happening) for happening in happenings],
        damage=await _damage(load, trouble),
        failed_in_all=dict(failures(load.records)),
        trouble=trouble,
    )


async def _damage(load: Load, trouble: list[str]) -> Damage:
    await trio.sleep(READ_BACK_AFTER_S)
    try:
        damage = await load.read_back()
    except* RequestFailed as group:
        trouble.append(f"cannot read back: {group.exceptions[0]}")
    else:
        return damage
    return Damage()


def _repetition(records: Sequence[Record], happening: Happening) -> Repetition:
    start = happening.moment - BASELINE_S
    around = sent_between(records, start, happening.end + TIMEOUT_S)
    found = gaps(around, happening.survivors, start=start, end=happening.end)
    sent = sent_between(records, start, happening.end)
    survivors = set(happening.survivors)
    gap_s = [gap.gap_s for gap in found if gap.gap_s is not None]
    wait_s = [gap.wait_s for gap in found if gap.wait_s is not None]
    return Repetition(
        gap_s=max(gap_s) if len(gap_s) == len(found) else None,
        wait_s=max(wait_s) if len(wait_s) == len(found) else None,
        gaps=found,
        requests=len(sent),
        failed_on_survivors=dict(failures(r for r in sent if r.node in survivors)),
        failed_on_victim=dict(failures(r for r in sent if r.node not in survivors)),
        stale=len(stale_reads(sent)),
        victim=happening.victim,
        trouble=happening.trouble,
    )


def row(result: Result) -> list[object]:
    """Return the line of one result in the table."""
    repetitions = result.repetitions
    on_survivors: Counter[str] = Counter()
    on_victim: Counter[str] = Counter()
    for repetition in repetitions:
        on_survivors.update(repetition.failed_on_survivors)
        on_victim.update(repetition.failed_on_victim)
    gap = [repetition.gap_s for repetition in repetitions]
    wait = [repetition.wait_s for repetition in repetitions]
    return [
        result.cluster,
        result.event,
        len(repetitions),
        *_median_and_max(gap),
        *_median_and_max(wait),
        sum(repetition.requests for repetition in repetitions),
        _kinds(on_survivors),
        _kinds(on_victim),
        len(result.damage.lost) + len(result.damage.overwritten),
        sum(repetition.stale for repetition in repetitions) + len(result.damage.behind),
        len(result.damage.executed_twice),
    ]


def _median_and_max(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Return both in milliseconds; a survivor that never answered again counts as infinite."""
    all_ms = [math.inf if value is None else value * 1000 for value in values]
    return (statistics.median_high(all_ms), max(all_ms)) if all_ms else (None, None)


def _kinds(counts: Counter[str]) -> str:
    if not counts:
        return "0"
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(counts.items()))
    return f"{counts.total()} ({kinds})"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _events(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in EVENTS:
            raise argparse.ArgumentTypeError(f"unknown event {name!r}: one of {', '.join(EVENTS)}")
    return names


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.failover")
    parser.add_argument(
        "clusters",
        nargs="*",
        default=DEFAULT_CLUSTERS,
        help=f"description files, or names of those in testbed/clusters ({DEFAULT_CLUSTERS})",
    )
    parser.add_argument(
        "--events", type=_events, default=list(EVENTS), help=f"comma list of {', '.join(EVENTS)}"
    )
    parser.add_argument("--repeat", type=int, default=5, help="how often each event happens (5)")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--writes", type=float, default=50.0, help="per second, in all (50)")
    parser.add_argument("--reads", type=float, default=50.0, help="per second, in all (50)")
    parser.add_argument("--calm", type=float, default=3.0, help="seconds before each event (3)")
    parser.add_argument("--json", type=Path, help="write every repetition to this file")
    parser.add_argument("--keep", type=Path, help="keep configurations, data and logs in here")
    return parser.parse_args(arguments)


async def _main(options: argparse.Namespace, descriptions: Sequence[Description]) -> list[Result]:
    plan = LoadPlan(
        clients=options.clients,
        writes_per_s=options.writes,
        reads_per_s=options.reads,
        timeout_s=TIMEOUT_S,
    )
    events = [EVENTS[name] for name in options.events]
    series = Series(repeat=options.repeat, calm_s=options.calm)
    results: list[Result] = []
    for description in descriptions:
        results.extend(await measure(description, events, series, plan, options.keep))
    return results


def main(arguments: Sequence[str]) -> int:
    """Measure and print; return 0 unless a cluster did not come up or recover."""
    options = _arguments(arguments)
    try:
        descriptions = [load_description(name) for name in options.clusters]
        results = trio.run(_main, options, descriptions)
    except (DescriptionError, LabError, OSError) as error:
        _say(f"failover: {error}")
        return 1
    ordered = sorted(results, key=lambda result: options.events.index(result.event))
    print(table(HEADS, [row(result) for result in ordered]))
    trouble = [
        f"{result.cluster}, {result.event}: {text}"
        for result in ordered
        for text in [*result.trouble, *(r.trouble for r in result.repetitions if r.trouble)]
    ]
    if trouble:
        print("\n" + "\n".join(trouble))
    if options.json is not None:
        report = {
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": platform.platform(),
            "load": {"clients": options.clients, "writes_per_s": options.writes},
            "results": [asdict(result) for result in results],
        }
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if any(result.trouble for result in results) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
