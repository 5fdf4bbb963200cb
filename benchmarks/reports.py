"""
What a mode of ``benchmarks.overload`` has to say: tables with a title and remarks.

Rules of this file:

1. Pure. A table of one system and that of another with the same title become one.
2. JSON holds the same figures under the same names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from benchmarks.tables import table


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """
    One table.

    Attributes:
        notes: what does not fit into columns; printed below.
        is_failure: a cluster did not come through.
    """

    title: str
    heads: Sequence[str]
    rows: list[list[object]]
    notes: list[str] = field(default_factory=list)
    is_failure: bool = False


def merge(reports: Iterable[Report]) -> list[Report]:
    """Return one report for each title, in the order in which they first came."""
    merged: dict[str, Report] = {}
    for report in reports:
        known = merged.get(report.title)
        if known is None:
            merged[report.title] = report
            continue
        merged[report.title] = replace(
            known,
            rows=[*known.rows, *report.rows],
            notes=[*known.notes, *report.notes],
            is_failure=known.is_failure or report.is_failure,
        )
    return list(merged.values())


def as_text(report: Report) -> str:
    """Return a table for people."""
    parts = [f"== {report.title}", table(report.heads, report.rows), *report.notes]
    return "\n".join(parts)


def as_json(report: Report) -> dict[str, object]:
    """Return the same as values of JSON."""
    return {
        "title": report.title,
        "rows": [dict(zip(report.heads, row, strict=True)) for row in report.rows],
        "notes": report.notes,
    }


def counts(kinds: dict[str, int]) -> str:
    """Return how many, and of what kinds."""
    if not kinds:
        return "0"
    parts = ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))
    return f"{sum(kinds.values())} ({parts})"
