"""
JUnit XML, as CI systems read it.

Rules of this file. Pure. Every text is escaped, and what XML 1.0 cannot hold is replaced: texts
come from servers.

Source: the xUnit schema of Jenkins (junit-10.xsd): testsuites > testsuite > testcase.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from xml.sax.saxutils import escape, quoteattr

_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class JUnitCase:
    """
    One test case.

    Args:
        classname: dotted, for grouping.
        name: for people.
        failure: message; "" passes.
        kind: type of the failure.
        skipped: reason; "" was run.
        body: longer text.
        took_s: duration.
    """

    classname: str
    name: str
    failure: str = ""
    kind: str = "failure"
    skipped: str = ""
    body: str = ""
    took_s: float = 0.0


def render_junit(name: str, cases: Sequence[JUnitCase], took_s: float, now: float) -> str:
    """
    Return one suite as a document.

    Args:
        name: of the suite.
        cases: in order.
        took_s: duration of the whole.
        now: seconds since the epoch.
    """
    failures = sum(bool(case.failure) for case in cases)
    skipped = sum(bool(case.skipped) for case in cases)
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    counts = f'tests="{len(cases)}" failures="{failures}" errors="0" time="{took_s:.3f}"'
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuites name="baoha" {counts}>',
        f'  <testsuite name={_quoted(name)} {counts} skipped="{skipped}" timestamp="{stamp}" '
        'hostname="localhost">',
        *(f"    {_case(case)}" for case in cases),
        "  </testsuite>",
        "</testsuites>",
    ]
    return "\n".join(lines) + "\n"


def _case(case: JUnitCase) -> str:
    head = f"<testcase classname={_quoted(case.classname)} name={_quoted(case.name)}"
    head += f' time="{case.took_s:.3f}"'
    if case.skipped:
        return f"{head}><skipped message={_quoted(case.skipped)}/></testcase>"
    if case.failure:
        opening = f"<failure message={_quoted(case.failure)} type={_quoted(case.kind)}>"
        return f"{head}>{opening}{escape(_clean(case.body))}</failure></testcase>"
    if case.body:
        return f"{head}><system-out>{escape(_clean(case.body))}</system-out></testcase>"
    return f"{head}/>"


def _quoted(text: str) -> str:
    return quoteattr(_clean(text))


def _clean(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
