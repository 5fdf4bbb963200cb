"""
A diagnosis for people: findings with why and fix, the nodes, one line as verdict.

Rule of this file: pure; words carry the meaning (FAIL, WARN, ok), colour only repeats it.

Source: docs/spec/cluster-cli.md section 3.3.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from textwrap import wrap
from typing import Final

from baoha.diagnostics.code import SEVERITY_WORDS, Finding, Severity
from baoha_cli.diagnose.gather.balancer import SAMPLES
from baoha_cli.diagnose.run import Diagnosis, node_records, via_records
from baoha_cli.exits import Verdict
from baoha_cli.output.documents import Document
from baoha_cli.output.gotext import plain_table
from baoha_cli.text import one_line

Paint = Callable[[str, str], str]
_STYLES: Final = {Severity.ERROR: "fail", Severity.WARNING: "warn", Severity.INFO: "dim"}
_WIDTH: Final = 96
_INDENT: Final = " " * 11
_HEADER: Final = ("NODE", "ROLE", "LEADER SEEN", "LINK", "CLUSTER PORT", "VERSION", "ADDRESS")
_ROWS: Final = ("SEVERITY", "CODE", "NODE", "TEXT", "CAUSE", "FIX")
_DASH: Final = "–"


def document(result: Diagnosis, paint: Paint) -> Document:
    """Return the result as a document."""
    rows = [
        (item.severity.value, item.code.id, item.node, item.text, str(item.cause or ""), item.fix)
        for item in result.faults
    ]
    return Document(
        result.as_data(),
        lambda wide: text_of(result, paint, wide=wide),
        rows=[_ROWS, *rows],
        names=[item.code.id for item in result.faults],
        records=[item.as_data() for item in result.faults],
    )


def text_of(result: Diagnosis, paint: Paint, *, wide: bool = False) -> str:
    """Return the whole as text."""
    lines: list[str] = []
    for item in result.faults:
        lines += _finding(item, paint)
    for item in result.baselined:
        place = f"{item.node} " if item.node else ""
        lines.append(paint(f"known {item.code} {place} {one_line(item.text)}", "dim"))
    if result.nodes and (result.faults or wide):
        if lines:
            lines.append("")
        lines += _nodes(result)
    if result.evidence is not None:
        lines += [
            f"{one_line(str(record['addr']))}: {record['summary']} (of {SAMPLES})"
            for record in via_records(result.evidence)
        ]
    lines.append(summary_line(result, paint))
    if result.faults:
        lines.append(f"hint: baoha explain {result.faults[0].cause or result.faults[0].code}")
    return "\n".join(lines)


def summary_line(result: Diagnosis, paint: Paint) -> str:
    """Return the last line."""
    good = result.verdict is Verdict.OK
    word = paint("ok  ", "ok") if good else paint("FAIL", "fail")
    parts = [f"{len(result.checked)} checks"]
    for severity, name in ((Severity.ERROR, "failed"), (Severity.WARNING, "warning")):
        count = result.count(severity)
        if count:
            parts.append(f"{count} {name}{'s' if name == 'warning' and count > 1 else ''}")
    if result.baselined:
        parts.append(f"{len(result.baselined)} known")
    if result.skipped:
        reasons = Counter(result.skipped.values())
        listed = "; ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        parts.append(f"{len(result.skipped)} skipped ({listed})")
    parts.append(f"{result.took_s:.1f} s")
    state = "" if good or result.failing else f" · {result.verdict.value}"
    return f"{word} {', '.join(parts)}{state}"


def _finding(item: Finding, paint: Paint) -> list[str]:
    word = paint(SEVERITY_WORDS[item.severity], _STYLES[item.severity])
    place = f"{one_line(item.node)}  " if item.node else ""
    lines = [f"{word} {item.code} {place}{one_line(item.text, chars_max=400)}"]
    if item.file:
        where = f"{item.file}:{item.line}" if item.line else item.file
        lines.append(f"     at    {one_line(where)}")
    cause = f"{item.cause}: " if item.cause else ""
    lines += _paragraph("why", f"{cause}{item.why}")
    lines += _paragraph("fix", item.fix)
    return lines


def _paragraph(title: str, text: str) -> list[str]:
    wrapped = wrap(one_line(text, chars_max=1000), _WIDTH - len(_INDENT), break_long_words=False)
    first, *rest = wrapped or [""]
    return [f"     {title:<5} {first}", *(f"{_INDENT}{line}" for line in rest)]


def _nodes(result: Diagnosis) -> list[str]:
    assert result.evidence is not None
    rows = [_HEADER]
    for node, record in zip(result.nodes, node_records(result.evidence), strict=True):
        link = node.link.value
        rows.append(
            (
                node.label,
                node.role.value if node.seal.status else "down",
                str(record["leader_seen"] or _DASH),
                _DASH if link in ("self", "unknown") else link,
                str(record["cluster_port"] or _DASH),
                str(record["version"] or _DASH),
                node.endpoint.url,
            )
        )
    table = plain_table([[one_line(cell) for cell in row] for row in rows], gap=2)
    return [line.rstrip() for line in table.split("\n")]
