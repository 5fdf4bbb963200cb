"""
What a cluster does when more is asked of it than it can do, or when its CPU time is taken away.

    python -m benchmarks.overload                              all modes, baoha and OpenBao
    python -m benchmarks.overload overload --system baoha --seconds 4 --multiples 1,4
    python -m benchmarks.overload squeeze --system baoha --rounds plain,SIGKILL

Rules of this file:

1. The load is an open loop (``benchmarks.generator``) in processes of their own; what they used of
   the CPU and how late they were is printed beside the figures, for they share the machine, unless
   ``--load-cores`` gives them processors of their own: otherwise four times the load is also less
   machine for the nodes, and the figures are of both.
2. A refusal that says that nothing was executed is counted apart; everything else that is not 2xx
   is an error. Whatever was acknowledged is looked for in the end.
3. An interrupt or SIGTERM ends every process that was started, and prints what was finished.
4. All systems meet the same modes in the same run. A cluster that does not survive a mode is a line
   of the report; the next mode gets a new one.

Modes: ``capacity`` (closed loop: the most that is answered), ``overload`` (multiples of it),
``squeeze`` (busy processes take the CPU), ``quota`` (each node gets a third of a core), ``attack``
(somebody without a token does what he can).
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import trio

from benchmarks.attack import ATTACKS, measure_attack
from benchmarks.generator import SEED_KEYS
from benchmarks.overload_runs import KINDS, Settings, measure_capacity, measure_overload
from benchmarks.quota import measure_quota
from benchmarks.reports import Report, as_json, as_text, merge
from benchmarks.squeeze import ROUNDS, measure_squeeze
from benchmarks.traffic import keep_cores, plant_seeds
from testbed.clusters import Cluster, LabError, run_cluster
from testbed.descriptions import Description, DescriptionError, load_description

Mode = Callable[[Cluster, Settings], Awaitable[list[Report]]]
MODES: dict[str, Mode] = {
    "capacity": measure_capacity,
    "overload": measure_overload,
    "squeeze": measure_squeeze,
    "quota": measure_quota,
    "attack": measure_attack,
}
SYSTEMS = {"baoha": "baoha-sqlite", "openbao": "openbao-raft"}
# Longest that one mode may take on one cluster.
MODE_S_MAX = 1_800.0


async def measure(
    descriptions: Sequence[Description], settings: Settings, reports: list[Report]
) -> None:
    """Add the reports of all modes and systems; a mode that fails is a report that says so."""
    for mode in settings.modes:
        for description in descriptions:
            _say(f"{description.name}: {mode}")
            try:
                with trio.fail_after(MODE_S_MAX):
                    reports.extend(await _measure_one(description, mode, settings))
            except* LabError as group:
                for error in _single(group):
                    _say(str(error))
                    reports.append(_failure(description.name, mode, error.summary))
            except* trio.TooSlowError:
                reports.append(_failure(description.name, mode, f"not over in {MODE_S_MAX:g} s"))


async def _measure_one(description: Description, mode: str, settings: Settings) -> list[Report]:
    async with run_cluster(description) as cluster:
        await plant_seeds(cluster, SEED_KEYS)
        return await MODES[mode](cluster, settings)


def _single(group: BaseExceptionGroup[LabError]) -> Iterator[LabError]:
    """Return the errors of a group, however deep."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _single(error)
        else:
            yield error


def _failure(cluster: str, mode: str, text: str) -> Report:
    return Report(
        title="not measured",
        heads=("cluster", "mode", "why"),
        rows=[[cluster, mode, text]],
        is_failure=True,
    )


async def _main(descriptions: Sequence[Description], settings: Settings) -> list[Report]:
    """Measure; an interrupt ends all processes, and what is finished by then is returned."""
    reports: list[Report] = []
    async with trio.open_nursery() as nursery:

        async def end_on_signal() -> None:
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                async for _ in signals:
                    reports.append(_failure("-", "-", "interrupted"))
                    nursery.cancel_scope.cancel()

        nursery.start_soon(end_on_signal)
        await measure(descriptions, settings, reports)
        nursery.cancel_scope.cancel()
    return merge(reports)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _names(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        names = tuple(text.split(","))
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"unknown {name!r}: one of {', '.join(known)}")
        return names

    return parse


def _factors(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in text.split(","))


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overload")
    parser.add_argument(
        "modes", nargs="*", default=list(MODES), help=f"any of {', '.join(MODES)} (all)"
    )
    parser.add_argument(
        "--system",
        default=",".join(SYSTEMS),
        help=f"comma list of {', '.join(SYSTEMS)}, description files or their names (all)",
    )
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load (20)")
    parser.add_argument(
        "--repeat", type=int, default=1, help="rounds of all loads in turn; medians count (1)"
    )
    parser.add_argument(
        "--multiples", type=_factors, default=(0.5, 1.0, 2.0, 4.0), help="of the capacity"
    )
    parser.add_argument(
        "--kinds", type=_names(KINDS), default=KINDS, help="connections: comma list of kept, new"
    )
    parser.add_argument(
        "--write-share", type=float, default=0.5, help="part of the requests that write (0.5)"
    )
    parser.add_argument(
        "--capacity", type=float, help="requests a second, instead of measuring them"
    )
    parser.add_argument(
        "--rounds", type=_names(ROUNDS), default=ROUNDS, help=f"of squeeze: {', '.join(ROUNDS)}"
    )
    parser.add_argument(
        "--attacks", type=_names(tuple(ATTACKS)), default=tuple(ATTACKS), help=", ".join(ATTACKS)
    )
    parser.add_argument(
        "--load-cores", type=int, default=0, help="processors for the load alone (0: it shares)"
    )
    parser.add_argument("--json", type=Path, help="write every figure to this file")
    options = parser.parse_args(arguments)
    for mode in options.modes:
        if mode not in MODES:
            parser.error(f"unknown mode {mode!r}: any of {', '.join(MODES)}")
    if not 0 < options.seconds < math.inf:
        parser.error("--seconds must be positive")
    if options.repeat < 1:
        parser.error("--repeat must be at least 1")
    return options


def main(arguments: Sequence[str]) -> int:
    """Measure and print; return 0 unless a cluster did not come up or did not survive."""
    options = _arguments(arguments)
    settings = Settings(
        modes=tuple(options.modes),
        seconds=options.seconds,
        repeat=options.repeat,
        multiples=options.multiples,
        kinds=options.kinds,
        write_share=options.write_share,
        capacity_per_s=options.capacity,
        rounds=options.rounds,
        attacks=options.attacks,
    )
    try:
        keep_cores(options.load_cores)
        names = [SYSTEMS.get(name, name) for name in options.system.split(",")]
        descriptions = [load_description(name) for name in names]
        reports = trio.run(_main, descriptions, settings)
    except (DescriptionError, OSError, ValueError) as error:
        _say(f"overload: {error}")
        return 1
    print("\n\n".join(as_text(report) for report in reports))
    if options.json is not None:
        content = {
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": platform.platform(),
            "reports": [as_json(report) for report in reports],
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    return 1 if any(report.is_failure for report in reports) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
