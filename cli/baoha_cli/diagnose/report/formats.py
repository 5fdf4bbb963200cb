"""
Reports of a diagnosis for other programs: JUnit, GitHub, GitLab, TAP, Nagios, Prometheus, JSON.

Rules of this file. Pure but for `write_reports`. Every value is escaped for its format: texts come
from servers. One result gives the same report every time, up to the time of day and durations.

Source: the formats' own documents: JUnit as Jenkins' xUnit schema has it, GitHub workflow commands,
GitLab code quality, TAP 13 and 14, Nagios plug-in guidelines, Prometheus text format 0.0.4.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from baoha.diagnostics.catalogue import CODES, group_of
from baoha.diagnostics.code import Finding, Severity
from baoha_cli.diagnose.checks.health import offsets
from baoha_cli.diagnose.run import Diagnosis
from baoha_cli.exits import Verdict
from baoha_cli.failures import CommandFailed, UsageFailed
from baoha_cli.output.gotext import pretty_json
from baoha_cli.output.junit import JUnitCase, render_junit
from baoha_cli.output.report_files import write_text
from baoha_cli.survey.nodes import Link, SeenRole
from baoha_cli.text import one_line

BASELINE_SCHEMA: Final = "baoha.baseline/v1"
_BASELINE_BYTES_MAX: Final = 4 * 1024 * 1024
_GITHUB_WORDS: Final = {
    Severity.ERROR: "error",
    Severity.WARNING: "warning",
    Severity.INFO: "notice",
}
_GITLAB_WORDS: Final = {
    Severity.ERROR: "critical",
    Severity.WARNING: "minor",
    Severity.INFO: "info",
}
_LEVELS: Final = {Severity.INFO: 1, Severity.WARNING: 2, Severity.ERROR: 3}


def render(kind: str, result: Diagnosis, now: float) -> str:
    """
    Return one report as text.

    Args:
        kind: one of KINDS.
        result: what was found.
        now: seconds since the epoch, for time stamps.
    """
    return KINDS[kind](result, now)


def parse_reports(given: Sequence[str]) -> list[tuple[str, Path]]:
    """
    Read ``--report KIND=PATH`` options.

    Raises:
        UsageFailed: no such kind, or no path.
    """
    wanted = []
    for text in given:
        kind, sign, path = text.partition("=")
        if kind not in KINDS or not sign or not path:
            names = ", ".join(KINDS)
            raise UsageFailed(f"--report: {text[:80]!a} is not KIND=PATH", hint=f"one of {names}")
        wanted.append((kind, Path(path)))
    return wanted


def write_reports(wanted: Sequence[tuple[str, Path]], result: Diagnosis, now: float) -> None:
    """
    Write each report to its file, in one step per file.

    Raises:
        CommandFailed: a file cannot be written; an older one is untouched.
    """
    for kind, path in wanted:
        write_text(path, render(kind, result, now))


def read_baseline(path: Path) -> frozenset[str]:
    """
    Return the keys of known findings, from a baseline or from an older JSON report.

    Raises:
        CommandFailed: it cannot be read, or is neither.
    """
    try:
        with path.open("rb") as file:
            data = json.loads(file.read(_BASELINE_BYTES_MAX))
    except (OSError, ValueError, RecursionError) as exc:
        words = exc.strerror if isinstance(exc, OSError) else "it is not JSON"
        raise CommandFailed(
            f"cannot read the baseline {ascii(str(path))[1:-1]}: {words}", verdict=Verdict.LOCAL
        ) from exc
    listed = data.get("findings") if isinstance(data, dict) else None
    if not isinstance(listed, list):
        raise CommandFailed(
            f"{ascii(str(path))[1:-1]} is no baseline: it has no findings", verdict=Verdict.LOCAL
        )
    keys = set()
    for item in listed:
        if isinstance(item, str):
            keys.add(item)
        elif isinstance(item, dict):
            place = item.get("node") or item.get("file") or "cluster"
            keys.add(f"{item.get('code')} {place}")
    return frozenset(keys)


# --- documents ------------------------------------------------------------------------------------


def _json(result: Diagnosis, now: float) -> str:
    return pretty_json(result.as_data()) + "\n"


def _ndjson(result: Diagnosis, now: float) -> str:
    records: list[dict[str, object]] = [
        {"type": "finding", **item.as_data()} for item in result.faults
    ]
    summary = result.as_data()["summary"]
    records.append({"type": "summary", "schema": "baoha.diagnose/v1", "summary": summary})
    return "".join(json.dumps(record) + "\n" for record in records)


def _baseline(result: Diagnosis, now: float) -> str:
    keys = sorted({item.key for item in (*result.faults, *result.baselined)})
    return pretty_json({"schema": BASELINE_SCHEMA, "findings": keys}) + "\n"


def _junit(result: Diagnosis, now: float) -> str:
    name = f"baoha diagnose {result.choice.area}"
    return render_junit(name, list(_junit_cases(result)), result.took_s, now)


def _junit_cases(result: Diagnosis) -> Iterator[JUnitCase]:
    found = _by_code(result)
    failing = set(result.failing)
    for code in (*result.checked, *(code for code in found if code not in result.checked)):
        if code not in found:
            yield JUnitCase(_classname(code), f"{code} {CODES[code].title}")
        for item in found.get(code, ()):
            name = f"{code} {CODES[code].title} ({item.node or 'cluster'})"
            body = f"{item.text}\nwhy: {item.why}\nfix: {item.fix}"
            if item in failing:
                yield JUnitCase(
                    _classname(code), name, failure=item.text, kind=item.severity.value, body=body
                )
            else:
                yield JUnitCase(_classname(code), name, body=f"{item.severity.value}: {body}")
    for code, reason in result.skipped.items():
        yield JUnitCase(_classname(code), f"{code} {CODES[code].title}", skipped=reason)


def _classname(code: str) -> str:
    group = group_of(CODES[code]).lower().replace(",", "").replace(" ", "-")
    return f"baoha.diagnose.{group}"


def _github(result: Diagnosis, now: float) -> str:
    lines = []
    for item in result.faults:
        properties = {}
        if item.file:
            properties["file"] = item.file
            if item.line:
                properties["line"] = str(item.line)
        properties["title"] = f"{item.code} {item.code.title}"
        listed = ",".join(f"{key}={_github_value(text)}" for key, text in properties.items())
        place = f"{item.node}: " if item.node else ""
        text = f"{place}{item.text}\nwhy: {item.why}\nfix: {item.fix}"
        lines.append(f"::{_GITHUB_WORDS[item.severity]} {listed}::{_github_data(text)}")
    return "".join(f"{line}\n" for line in lines)


def _github_data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _github_value(text: str) -> str:
    return _github_data(text).replace(":", "%3A").replace(",", "%2C")


def _gitlab(result: Diagnosis, now: float) -> str:
    records = []
    for item in result.faults:
        place = f"{item.node}: " if item.node else ""
        records.append(
            {
                "description": f"{item.code} {place}{item.text} (fix: {item.fix})",
                "check_name": item.code.id,
                "fingerprint": hashlib.sha256(item.key.encode("utf-8", "replace")).hexdigest(),
                "severity": _GITLAB_WORDS[item.severity],
                "location": {
                    "path": item.file or f"cluster/{_path_part(item.node) or 'all'}",
                    "lines": {"begin": max(item.line, 1)},
                },
            }
        )
    return json.dumps(records, indent=2) + "\n"


def _path_part(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-")


def _tap(result: Diagnosis, now: float) -> str:
    return _tap_version(result, 14)


def _tap13(result: Diagnosis, now: float) -> str:
    return _tap_version(result, 13)


def _tap_version(result: Diagnosis, version: int) -> str:
    found = _by_code(result)
    failing = set(result.failing)
    points: list[tuple[bool, str, Finding | None]] = []
    for code in (*result.checked, *(code for code in found if code not in result.checked)):
        if code not in found:
            points.append((True, f"{code} {CODES[code].title}", None))
        for item in found.get(code, ()):
            place = f"{item.node}: " if item.node else ""
            points.append((item not in failing, f"{code} {place}{item.text}", item))
    lines = [f"TAP version {version}", f"1..{len(points) + len(result.skipped)}"]
    for number, (passed, text, shown) in enumerate(points, start=1):
        lines.append(f"{'ok' if passed else 'not ok'} {number} - {_tap_text(text)}")
        if shown is not None:
            lines += ["  ---", *_tap_yaml(shown), "  ..."]
    for number, (code, reason) in enumerate(result.skipped.items(), start=len(points) + 1):
        title = _tap_text(f"{code} {CODES[code].title}")
        lines.append(f"ok {number} - {title} # SKIP {_tap_text(reason)}")
    return "\n".join(lines) + "\n"


def _tap_text(text: str) -> str:
    return one_line(text, chars_max=400).replace("\\", "\\\\").replace("#", "\\#")


def _tap_yaml(item: Finding) -> list[str]:
    pairs = {"severity": item.severity.value, "message": item.text, "why": item.why}
    pairs["fix"] = item.fix
    # A JSON string is a YAML string.
    return [f"  {key}: {json.dumps(text)}" for key, text in pairs.items()]


# --- monitoring -----------------------------------------------------------------------------------


def nagios_verdict(result: Diagnosis) -> Verdict:
    """Return what Nagios should be told: a warning is one, whatever --fail-on says."""
    if result.verdict is not Verdict.OK:
        return result.verdict
    return Verdict.DEGRADED if result.worst is Severity.WARNING else Verdict.OK


def _nagios(result: Diagnosis, now: float) -> str:
    words = {Verdict.OK: "OK", Verdict.DEGRADED: "WARNING"}
    word = words.get(nagios_verdict(result), "CRITICAL")
    if result.faults:
        first = result.faults[0]
        place = f"{first.node}: " if first.node else ""
        text = f"{first.code} {place}{first.text}"
        more = len(result.faults) - 1
        text += f" (and {more} more)" if more else ""
    elif result.verdict is Verdict.OK:
        text = _well(result)
    else:
        text = result.verdict.value
    lines = [f"BAOHA {word} - {_nagios_text(text)} | {_perfdata(result)}"]
    for item in result.faults:
        place = f"{item.node}: " if item.node else ""
        lines.append(_nagios_text(f"{item.code} {place}{item.text}; fix: {item.fix}"))
    return "\n".join(lines) + "\n"


def _well(result: Diagnosis) -> str:
    if result.evidence is None:
        return f"{result.nodes_total} configurations, {len(result.checked)} checks"
    active = result.evidence.active
    standbys = result.evidence.standbys
    forwarding = sum(node.link is Link.FORWARD for node in standbys)
    leader = active.label if active else "none among the nodes asked"
    return f"leader {leader}, {forwarding}/{len(standbys)} standbys forward"


def _nagios_text(text: str) -> str:
    return one_line(text, chars_max=400).replace("|", "/")


def _perfdata(result: Diagnosis) -> str:
    pairs = [f"errors={result.count(Severity.ERROR)}"]
    pairs.append(f"warnings={result.count(Severity.WARNING)}")
    if result.evidence is not None:
        evidence = result.evidence
        pairs.append(f"leaders={len(evidence.actives)}")
        pairs.append(f"standby={len(evidence.standbys)}")
        times = [node.plain.took_s for node in evidence.standbys if node.plain.status == 403]
        if times:
            pairs.append(f"forward_ms={max(times) * 1000:.0f};200;1000")
    pairs.append(f"took={result.took_s:.2f}s")
    return " ".join(pairs)


def _prometheus(result: Diagnosis, now: float) -> str:
    families: list[tuple[str, str, list[tuple[dict[str, str], float]]]] = []
    statuses: list[tuple[dict[str, str], float]] = []
    found = _by_code(result)
    for code in result.checked:
        if code not in found:
            statuses.append(({"code": code, "node": ""}, 0))
    for item in result.faults:
        statuses.append(({"code": item.code.id, "node": item.node}, _LEVELS[item.severity]))
    text = "0 is well, 1 info, 2 warning, 3 error."
    families.append(("baoha_check_status", text, statuses))
    families.append(("baoha_diagnose_duration_seconds", "How long it took.", [({}, result.took_s)]))
    families.append(("baoha_diagnose_timestamp_seconds", "When it ended.", [({}, now)]))
    families += _cluster_families(result, now)
    lines = []
    for name, help_text, samples in families:
        if samples:
            lines += [f"# HELP {name} {help_text}", f"# TYPE {name} gauge"]
            lines += [f"{name}{_labels(labels)} {value:.15g}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _cluster_families(
    result: Diagnosis, now: float
) -> Iterator[tuple[str, str, list[tuple[dict[str, str], float]]]]:
    evidence = result.evidence
    if evidence is None:
        return
    yield "baoha_leader_count", "Nodes that say they are active.", [({}, len(evidence.actives))]
    up = [({"node": node.label}, float(node.is_api)) for node in evidence.nodes]
    yield "baoha_node_up", "Whether the node answers.", up
    sealed = [
        ({"node": node.label}, float(node.role in (SeenRole.SEALED, SeenRole.UNINITIALIZED)))
        for node in evidence.nodes
        if node.is_api
    ]
    yield "baoha_node_sealed", "Whether it is sealed or not initialised.", sealed
    links = [({"node": node.label}, float(node.link is Link.FORWARD)) for node in evidence.standbys]
    yield "baoha_standby_link", "Whether the standby forwards.", links
    skews = [({"node": label}, offset.middle) for label, offset in offsets(evidence).items()]
    yield "baoha_clock_skew_seconds", "Clock of the node minus the one here.", skews
    expiries = [
        ({"addr": look.endpoint.url}, min(one.not_after for one in look.chain) - now)
        for look in evidence.tls.values()
        if look.chain
    ]
    yield "baoha_cert_expiry_seconds", "Seconds until the certificate expires.", expiries


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    listed = ",".join(f'{key}="{_label_text(text)}"' for key, text in labels.items())
    return f"{{{listed}}}"


def _label_text(text: str) -> str:
    return one_line(text).replace("\\", "\\\\").replace('"', '\\"')


def _by_code(result: Diagnosis) -> dict[str, list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for item in result.faults:
        found.setdefault(item.code.id, []).append(item)
    return found


KINDS: Final[dict[str, Callable[[Diagnosis, float], str]]] = {
    "json": _json,
    "ndjson": _ndjson,
    "junit": _junit,
    "github": _github,
    "gitlab": _gitlab,
    "tap": _tap,
    "tap13": _tap13,
    "nagios": _nagios,
    "prometheus": _prometheus,
    "baseline": _baseline,
}
