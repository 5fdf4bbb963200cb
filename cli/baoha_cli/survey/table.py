"""
Several nodes as one document: table, JSON, names, and a verdict in words.

Rule of this file: it is pure, and concludes nothing: it is handed a `Judged`. Words carry the
meaning (OK, DEGRADED, NONE); colour only repeats it.

Source: docs/spec/cluster-cli.md sections 3.3 (the table) and 2.3 (the JSON).
"""

from __future__ import annotations

from collections.abc import Callable

from baoha.diagnostics.code import SEVERITY_WORDS, Finding, Severity
from baoha_cli.exits import Verdict
from baoha_cli.failures import ErrorKind
from baoha_cli.output.documents import Document
from baoha_cli.output.gotext import plain_table
from baoha_cli.survey.judged import Judged
from baoha_cli.survey.nodes import Link, NodeReport, SeenRole
from baoha_cli.text import one_line

_HEADER = ("NODE", "STATE", "ROLE", "LEADER SEEN", "LINK", "VERSION", "SKEW", "TOOK", "NOTE")
_WIDE_HEADER = (*_HEADER, "ADDRESS", "ACTIVE SINCE", "CLUSTER ID")
_DASH = "–"
# What a wrong certificate, and TLS on one side only, look like.
_TLS_KINDS = frozenset({ErrorKind.TLS, ErrorKind.PROTOCOL})
Paint = Callable[[str, str], str]


def verdict_word(verdict: Verdict) -> str:
    """Return the verdict in one word."""
    return "UNREACHABLE" if verdict is Verdict.TLS else verdict.name


def cluster_document(judged: Judged, paint: Paint) -> Document:
    """Return the document of several nodes."""
    report = judged.report
    return Document(
        cluster_data(judged),
        lambda wide: cluster_text(judged, paint, wide=wide),
        rows=[_HEADER, *(_row(judged, node) for node in report.nodes)],
        names=[node.label for node in report.nodes],
        records=[node.as_data() for node in report.nodes],
    )


def cluster_data(judged: Judged) -> dict[str, object]:
    """Return the JSON form of several nodes."""
    report = judged.report
    ids = sorted({node.cluster_id for node in report.nodes if node.cluster_id})
    names = sorted({str(node.seal.get("cluster_name") or "") for node in report.nodes} - {""})
    return {
        "schema": "baoha.status/v1",
        "cluster": {
            "id": ids[0] if len(ids) == 1 else None,
            "name": names[0] if len(names) == 1 else None,
            "verdict": verdict_word(judged.verdict).lower(),
            "leaders": [node.endpoint.url for node in report.actives],
            "nodes_total": len(report.nodes),
            "nodes_active": report.role_count(SeenRole.ACTIVE),
            "nodes_standby": report.role_count(SeenRole.STANDBY),
            "nodes_sealed": report.role_count(SeenRole.SEALED),
            "nodes_uninitialized": report.role_count(SeenRole.UNINITIALIZED),
            "nodes_down": sum(not node.reachable for node in report.nodes),
        },
        "nodes": [node.as_data() for node in report.nodes],
        "findings": [_finding_data(finding) for finding in judged.findings],
    }


def _finding_data(finding: Finding) -> dict[str, object]:
    """Return what `baoha.status/v1` says of a finding."""
    data = finding.as_data()
    return {key: data[key] for key in ("code", "severity", "node", "text", "why", "fix")}


def cluster_text(judged: Judged, paint: Paint, *, wide: bool = False) -> str:
    """Return the table and its summary line."""
    header = _WIDE_HEADER if wide else _HEADER
    rows = [header, *(_row(judged, node, wide=wide) for node in judged.report.nodes)]
    styles = {"DOWN": "fail", "sealed": "fail", "NONE": "fail", "active": "ok", "redirect": "warn"}

    def cell(text: str) -> str:
        return paint(text, styles[text]) if text in styles else text

    lines = [line.rstrip() for line in plain_table(rows, gap=2, paint=cell).split("\n")]
    lines.append(summary_line(judged, paint))
    lines += [
        f"{SEVERITY_WORDS[item.severity]} {item.code} "
        + one_line(f"{item.node}  {item.text}" if item.node else item.text)
        for item in judged.findings_elsewhere
    ]
    return "\n".join([*lines, *_hints(judged)])


def _hints(judged: Judged) -> list[str]:
    """Say where to read on: about the worst finding, and about TLS, which has no code here."""
    hints = [f"baoha explain {item.code}" for item in judged.findings[:1] if _is_error(item)]
    if any(node.error_kind in _TLS_KINDS for node in judged.report.nodes):
        hints.append("baoha diagnose tls")
    return [f"hint: {hint}" for hint in hints]


def _is_error(finding: Finding) -> bool:
    return finding.severity is Severity.ERROR


def summary_line(judged: Judged, paint: Paint) -> str:
    """Return one line for the whole cluster."""
    report = judged.report
    ids = sorted({node.cluster_id for node in report.nodes if node.cluster_id})
    name = one_line(ids[0].split("-")[0], chars_max=20) if len(ids) == 1 else "(unknown)"
    down = sum(not node.reachable for node in report.nodes)
    closed = report.role_count(SeenRole.SEALED) + report.role_count(SeenRole.UNINITIALIZED)
    counts = (
        f"{report.role_count(SeenRole.ACTIVE)} active, "
        f"{report.role_count(SeenRole.STANDBY)} standby, "
        f"{closed} sealed, {down} down"
    )
    leaders = ", ".join(node.endpoint.url for node in report.actives) or "NONE"
    word = verdict_word(judged.verdict)
    return f"cluster {name}  {counts} · leader {leaders} · {paint(word, _word_style(word))}"


def _word_style(word: str) -> str:
    return "ok" if word == "OK" else "fail"


def _row(judged: Judged, node: NodeReport, *, wide: bool = False) -> list[str]:
    report = judged.report
    notes = [f"{item.code} {item.text}" for item in judged.findings_at(node.label)]
    if not node.reachable and not notes:
        notes = [f"{node.error_kind}: {node.error}"]
    if node.reachable:
        seen = report.leader_label(node)
        if node.role is SeenRole.ACTIVE:
            seen = f"{seen} (self)"
        elif node.role is SeenRole.STANDBY:
            seen = seen or "NONE"
        state = "unsealed" if node.sealed is False else node.role.value
        role = node.role.value if node.sealed is False else _DASH
        link = _DASH if node.link in (Link.SELF, Link.UNKNOWN) else node.link.value
    else:
        state, role, seen, link = "DOWN", _DASH, _DASH, _DASH
    took = _DASH if node.latency_ms is None else f"{node.latency_ms}ms"
    version = node.version or _DASH
    row = [node.label, state, role, seen or _DASH, link, version, _skew(node), took]
    row.append("; ".join(notes))
    if wide:
        row += [node.endpoint.url, node.active_time or _DASH, node.cluster_id or _DASH]
    return [one_line(cell) for cell in row]


def _skew(node: NodeReport) -> str:
    if node.skew_ms is None:
        return _DASH
    # Less than what can be told from a clock that shows whole seconds is no skew.
    known = 0 if abs(node.skew_ms) <= (node.skew_uncertainty_ms or 0) else node.skew_ms
    return f"{known / 1000:+.1f}s"
