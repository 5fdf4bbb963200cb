"""
The page docs/cli/diagnostics.md, made from the catalogue.

Rule of this file: pure; a test compares the page in the tree with this one. To write it anew:
``python -m baoha_cli.manual.codes_page > docs/cli/diagnostics.md``.
"""

from __future__ import annotations

import sys
from typing import Final

from baoha.diagnostics.catalogue import ALL, AREAS, CODES, GROUPS, areas_of, in_area
from baoha.diagnostics.code import Code, Severity
from baoha_cli.exits import TABLE, Verdict

_HEAD: Final = """\
# Diagnostics

<!-- Made by `python -m baoha_cli.manual.codes_page`; a test compares it. Do not edit. -->

`baoha diagnose` finds what is wrong with a cluster of baoha, OpenBao or Vault, says why it matters
and how to mend it. It reads only (GET), asks all nodes at the same time, and needs no token: none
is sent unless `--token-file` is given, and then only to the addresses that were given. Redirects
are walked hop by hop without credentials. Certificates are judged, not trusted: the requests carry
nothing that could be stolen.

    baoha diagnose addresses --addr https://a:8200,https://b:8200 --via https://vault.example.com
    baoha diagnose forwarding --addr $NODES -o nagios
    baoha diagnose config deploy/*.hcl -o github
    baoha diagnose all --addr $NODES --report junit=ha.xml --report prometheus=ha.prom

A finding that an election would explain for a moment is asked again, three times over three
seconds (`--settle`), before it counts. One fault is one finding: what only follows from it is left
out, and what explains it is named as its cause. On a healthy cluster nothing is found at all; what
is true of healthy clusters and worth knowing is shown with `--facts`.

The probes `GET sys/ha-status` can appear in the audit log of the active node as denied requests;
`--no-audit-noise` leaves them out, and with them what they find. At the cluster port one or two TLS
handshakes are begun, which a server may log as a warning.

`--baseline FILE` takes the findings of an older `--report baseline=FILE` (or `json=FILE`): they are
shown and do not count. `--only` and `--skip` take patterns such as `BH-3*`.
"""
_CONFIG: Final = """\
`diagnose config` uses no network. Each file (or directory) is one node; several are compared with
each other. OpenBao's HCL and JSON files are read as they are. A file with blocks that baoha does
not have is judged by its addresses, stores and listeners.
"""
_WORDS: Final = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "info"}


def page() -> str:
    """Return the whole page."""
    parts = [_HEAD, _areas(), _CONFIG, _exit_codes()]
    for digit, title in GROUPS.items():
        codes = [code for code in CODES.values() if code.hundred == digit]
        parts.append(f"## {title}\n")
        parts += [_section(code) for code in codes]
    return "\n".join(parts)


def _areas() -> str:
    lines = ["## Commands", "", "| command | looks for |", "| --- | --- |"]
    for name in AREAS:
        listed = ", ".join(pattern.replace("[", "\\[") for pattern in _patterns(name))
        lines.append(f"| `diagnose {name}` | {listed} |")
    return "\n".join(lines) + "\n"


def _patterns(area: str) -> list[str]:
    """Return what a command looks for, as patterns: whole hundreds, whole tens, then the rest."""
    if area == ALL:
        return ["BH-*"]
    wanted = [code.id[3:] for code in CODES.values() if in_area(code, area)]
    known = [code.id[3:] for code in CODES.values()]
    hundreds = [digit for digit in GROUPS if _is_whole(digit, wanted, known)]
    found = [(digits, f"BH-{_digits(digits)}??") for digits in _runs(hundreds)]
    rest = [number for number in wanted if number[0] not in hundreds]
    for ten in dict.fromkeys(number[:2] for number in rest):
        last = [number[2] for number in rest if number.startswith(ten)]
        is_whole = _is_whole(ten, wanted, known) and len(last) > 1
        found.append(([ten], f"BH-{ten}?" if is_whole else f"BH-{ten}{_digits(last)}"))
    return [pattern for _, pattern in sorted(found)]


def _is_whole(start: str, wanted: list[str], known: list[str]) -> bool:
    return all(number in wanted for number in known if number.startswith(start))


def _runs(digits: list[str]) -> list[list[str]]:
    """Put digits that follow each other together."""
    runs: list[list[str]] = []
    for digit in digits:
        if runs and int(digit) == int(runs[-1][-1]) + 1:
            runs[-1].append(digit)
        else:
            runs.append([digit])
    return runs


def _digits(digits: list[str]) -> str:
    """Return one of several digits as a pattern: "4", "[12]", "[1-3]"."""
    if len(digits) == 1:
        return digits[0]
    parts = [f"{run[0]}-{run[-1]}" if len(run) > 2 else "".join(run) for run in _runs(digits)]
    return f"[{''.join(parts)}]"


def _exit_codes() -> str:
    wanted = (
        *(Verdict.OK, Verdict.NO, Verdict.SEALED, Verdict.UNINITIALIZED, Verdict.UNREACHABLE),
        *(Verdict.TLS, Verdict.TIMEOUT, Verdict.USAGE, Verdict.BUG),
    )
    lines = ["## Exit codes", "", "| code | nagios | meaning |", "| --- | --- | --- |"]
    for verdict in wanted:
        row = TABLE[verdict]
        lines.append(f"| {row.detailed} | {row.nagios} | {verdict.value} |")
    lines += ["", '"No" means: a finding at or above `--fail-on` (error, unless told otherwise).']
    return "\n".join(lines) + "\n"


def _section(code: Code) -> str:
    lines = [f"### {code}: {code.title}", ""]
    facts = [_WORDS[code.severity]]
    if code.may_be_election:
        facts.append("asked again before it counts")
    if code.needs_token:
        facts.append("needs a token")
    if code.on_request:
        facts.append("shown with `--facts`")
    facts.append(
        f"found by {code.found_without_probes}"
        if code.is_by_hand
        else "found by " + ", ".join(f"`{area}`" for area in areas_of(code))
    )
    lines += [f"*{'; '.join(facts)}*", ""]
    if code.symptom:
        lines.append(f"- **Symptom:** {_escaped(code.symptom)}")
    lines.append(f"- **Why:** {_escaped(code.why)}")
    lines.append(f"- **Fix:** {_escaped(code.fix)}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("<", "&lt;").replace("*", "\\*")


if __name__ == "__main__":
    sys.stdout.write(page())
