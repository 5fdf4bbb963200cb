"""
The catalogue in words: one check in full, and the list of all.

Rule of this file: pure.

Source: docs/spec/cluster-cli.md section 6.2.
"""

from __future__ import annotations

from difflib import get_close_matches
from textwrap import wrap
from typing import Final

from baoha.diagnostics.catalogue import CHECKS, Check, matches
from baoha.diagnostics.code import SEVERITY_WORDS
from baoha_cli.failures import UsageFailed
from baoha_cli.output.documents import Document
from baoha_cli.output.gotext import plain_table

_WIDTH: Final = 88


def find_check(code: str) -> Check:
    """
    Return the check of a code: BH-401, bh401, 401.

    Raises:
        UsageFailed: there is none.
    """
    plain = code.strip().upper().removeprefix("BH").lstrip("-")
    found = CHECKS.get(f"BH-{plain}")
    if found is None:
        near = get_close_matches(f"BH-{plain[:10]}", list(CHECKS), n=1)
        hint = f"did you mean {near[0]}?" if near else "'baoha explain' lists the codes"
        hint += "; also exit-codes and conditions"
        raise UsageFailed(f"nothing is known about {code[:40]!a}", hint=hint)
    return found


def explanation_document(code: str) -> Document:
    """
    Return one check in full.

    Raises:
        UsageFailed: there is none.
    """
    check = find_check(code)
    data = {"schema": "baoha.explanation/v1", **check.as_data()}
    return Document(data, lambda _: explanation_text(check), names=[check.code])


def explanation_text(check: Check) -> str:
    """Return one check as text."""
    pairs = [("symptom", check.symptom), ("why", check.why), ("fix", check.fix)]
    found = ", ".join(f"diagnose {area}" for area in check.areas) or "diagnose all"
    pairs.append(("found by", "people; no probe can see it" if check.is_by_hand else found))
    if check.needs_token:
        pairs.append(("needs", "a token: --token-file FILE"))
    if check.is_on_request:
        pairs.append(("shown", f"with --facts, or --only {check.code}: healthy clusters have it"))
    if check.is_transient:
        again = "3 times over 3 s before it counts: an election looks like this for a moment"
        pairs.append(("asked", again))
    lines = [f"{check.code}  {check.title}", f"{SEVERITY_WORDS[check.severity]} · {check.group}"]
    for name, text in pairs:
        for number, line in enumerate(wrap(text, _WIDTH - 10)):
            lines.append(f"  {name if number == 0 else '':<9} {line}")
    return "\n".join(lines)


def catalogue_document(patterns: tuple[str, ...] = ()) -> Document:
    """Return the list of checks that fit the patterns (all without any)."""
    checks = [one for one in CHECKS.values() if not patterns or matches(one.code, patterns)]
    header = ("CODE", "SEVERITY", "TITLE", "FOUND BY")
    rows = [
        (one.code, one.severity.value, one.title, "people" if one.is_by_hand else _areas(one))
        for one in checks
    ]
    return Document(
        {"schema": "baoha.checks/v1", "checks": [one.as_data() for one in checks]},
        lambda _: plain_table([header, *rows], gap=2),
        rows=[header, *rows],
        names=[one.code for one in checks],
        records=[one.as_data() for one in checks],
    )


def _areas(check: Check) -> str:
    return ",".join(check.areas)
