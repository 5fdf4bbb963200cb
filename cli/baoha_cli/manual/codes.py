"""
The catalogue in words: one code in full, and the list of all.

Rule of this file: pure.

Source: docs/spec/cluster-cli.md section 6.2.
"""

from __future__ import annotations

from difflib import get_close_matches
from textwrap import wrap
from typing import Final

from baoha.diagnostics.catalogue import CODES, areas_of, group_of, matches
from baoha.diagnostics.code import SEVERITY_WORDS, Code
from baoha_cli.failures import UsageFailed
from baoha_cli.output.documents import Document
from baoha_cli.output.gotext import plain_table

_WIDTH: Final = 88


def find_code(text: str) -> Code:
    """
    Return a code by its text: BH-401, bh401, 401.

    Raises:
        UsageFailed: there is none.
    """
    plain = text.strip().upper().removeprefix("BH").lstrip("-")
    found = CODES.get(f"BH-{plain}")
    if found is None:
        near = get_close_matches(f"BH-{plain[:10]}", list(CODES), n=1)
        hint = f"did you mean {near[0]}?" if near else "'baoha explain' lists the codes"
        hint += "; also exit-codes and conditions"
        raise UsageFailed(f"nothing is known about {text[:40]!a}", hint=hint)
    return found


def explanation_document(text: str) -> Document:
    """
    Return one code in full.

    Raises:
        UsageFailed: there is none.
    """
    code = find_code(text)
    data = {"schema": "baoha.explanation/v1", **_data(code)}
    return Document(data, lambda _: explanation_text(code), names=[code.id])


def explanation_text(code: Code) -> str:
    """Return one code as text."""
    pairs = [("symptom", code.symptom), ("why", code.why), ("fix", code.fix)]
    found = ", ".join(f"diagnose {area}" for area in areas_of(code)) or "diagnose all"
    pairs.append(("found by", code.found_without_probes if code.is_by_hand else found))
    if code.needs_token:
        pairs.append(("needs", "a token: --token-file FILE"))
    if code.on_request:
        pairs.append(("shown", f"with --facts, or --only {code}: healthy clusters have it"))
    if code.may_be_election:
        again = "3 times over 3 s before it counts: an election looks like this for a moment"
        pairs.append(("asked", again))
    lines = [f"{code}  {code.title}", f"{SEVERITY_WORDS[code.severity]} · {group_of(code)}"]
    for name, text in pairs:
        for number, line in enumerate(wrap(text, _WIDTH - 10)):
            lines.append(f"  {name if number == 0 else '':<9} {line}")
    return "\n".join(lines)


def catalogue_document(patterns: tuple[str, ...] = ()) -> Document:
    """Return the list of codes that fit the patterns (all without any)."""
    codes = [one for one in CODES.values() if not patterns or matches(one, patterns)]
    header = ("CODE", "SEVERITY", "TITLE", "FOUND BY")
    rows = [
        (
            one.id,
            one.severity.value,
            one.title,
            "people" if one.is_by_hand else ",".join(areas_of(one)),
        )
        for one in codes
    ]
    return Document(
        {"schema": "baoha.checks/v1", "checks": [_data(one) for one in codes]},
        lambda _: plain_table([header, *rows], gap=2),
        rows=[header, *rows],
        names=[one.id for one in codes],
        records=[_data(one) for one in codes],
    )


def _data(code: Code) -> dict[str, object]:
    return {
        "code": code.id,
        "severity": code.severity.value,
        "group": group_of(code),
        "title": code.title,
        "symptom": code.symptom or None,
        "why": code.why,
        "fix": code.fix,
        "areas": list(areas_of(code)),
        "asked_again": code.may_be_election,
        "on_request": code.on_request,
        "needs_token": code.needs_token,
        "by_hand": code.is_by_hand,
    }
