"""
Findings of a diagnosis, and the rules by which several symptoms of one fault become one finding.

Rule of this file: pure. One fault is one finding: what follows from another finding at the same
place is left out, and what explains it is named in it.

Source: ours; "names the right code, and only that".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from baoha.diagnostics.catalogue import CHECKS
from baoha.diagnostics.code import Finding, Severity


@dataclass(frozen=True)
class Fault(Finding):
    """
    A finding with what is special about this case.

    Args:
        cause: code of what explains it, or "".
        detail: why it is so in this case; "" leaves the catalogue's words alone.
        remedy: what to do in this case; "" takes the catalogue's.
        about: labels and addresses it is about; the node itself counts always.
        file, line: where in a configuration, "" and 0 elsewhere.
    """

    cause: str = ""
    detail: str = ""
    remedy: str = ""
    about: tuple[str, ...] = ()
    file: str = ""
    line: int = 0

    @property
    def why(self) -> str:
        """Why it matters, what was seen first."""
        return self.detail or CHECKS[self.code].why

    @property
    def fix(self) -> str:
        """What to do."""
        if self.remedy:
            return self.remedy
        return CHECKS[self.cause or self.code].fix

    @property
    def key(self) -> str:
        """What a baseline remembers: code and place, no numbers that change."""
        return f"{self.code} {self.node or self.file or 'cluster'}"

    def as_data(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "code": self.code,
            "severity": self.severity.value,
            "node": self.node or None,
            "title": CHECKS[self.code].title,
            "text": self.text,
            "cause": self.cause or None,
            "why": self.why,
            "fix": self.fix,
            "file": self.file or None,
            "line": self.line or None,
        }


def fault(
    code: str,
    node: str,
    text: str,
    *,
    severity: Severity | None = None,
    cause: str = "",
    detail: str = "",
    remedy: str = "",
    about: tuple[str, ...] = (),
) -> Fault:
    """Return a finding with the usual severity of its code."""
    usual = CHECKS[code].severity
    return Fault(code, severity or usual, node, text, cause, detail, remedy, about)


# What explains what, at the same place. "*" is any place: the fault is the whole cluster's.
_SAME: Final[dict[str, tuple[str, ...]]] = {
    "BH-101": ("BH-109",),
    "BH-102": ("BH-109",),
    "BH-103": ("BH-109",),
    "BH-111": ("BH-109",),
    "BH-112": ("BH-109",),
    "BH-106": ("BH-107",),
    "BH-201": ("BH-205", "BH-206", "BH-210", "BH-505"),
    "BH-204": ("BH-312",),
    "BH-207": ("BH-210", "BH-505"),
    "BH-208": ("BH-210", "BH-505"),
    "BH-209": ("BH-210", "BH-505"),
    "BH-306": ("BH-205", "BH-206", "BH-210", "BH-505", "BH-601", "BH-602", "BH-906"),
    "BH-308": ("BH-316", "BH-505"),
    "BH-304": ("BH-906",),
    "BH-402": ("BH-906", "BH-206"),
    "BH-602": ("BH-206",),
    "BH-701": ("BH-207", "BH-210", "BH-505", "BH-702", "BH-707"),
    "BH-703": ("BH-207", "BH-210", "BH-505", "BH-707"),
    "BH-704": ("BH-208", "BH-210", "BH-505"),
    "BH-705": ("BH-207",),
    "BH-506": ("BH-201", "BH-505", "BH-210"),
    "BH-501": ("BH-502", "BH-509"),
    "BH-503": ("BH-117", "BH-501", "BH-509"),
    "BH-807": ("BH-501", "BH-503", "BH-117", "BH-509"),
    "BH-504": ("BH-509",),
}
# What an unusable address of the leader leads to, at every standby.
_OF_BAD_ADDRESS: Final = (
    *("BH-201", "BH-205", "BH-206", "BH-210", "BH-401", "BH-405", "BH-505", "BH-506"),
    *("BH-601", "BH-602"),
)
_ANYWHERE: Final[dict[str, tuple[str, ...]]] = {
    "BH-102": _OF_BAD_ADDRESS,
    "BH-103": _OF_BAD_ADDRESS,
    "BH-104": _OF_BAD_ADDRESS,
    "BH-111": _OF_BAD_ADDRESS,
    "BH-112": _OF_BAD_ADDRESS,
    "BH-305": ("BH-509",),
    "BH-116": ("BH-117", "BH-307", "BH-502"),
    "BH-301": ("BH-906",),
    "BH-302": ("BH-305",),
    "BH-306": ("BH-401", "BH-402"),
    "BH-307": ("BH-401", "BH-502", "BH-501", "BH-906"),
    "BH-308": ("BH-401", "BH-315", "BH-906"),
    "BH-311": ("BH-302", "BH-305"),
    "BH-315": ("BH-316",),
    "BH-904": ("BH-903",),
    "BH-910": ("BH-301", "BH-304", "BH-906", "BH-907", "BH-908", "BH-404"),
    "BH-312": ("BH-302", "BH-315"),
}


def settle(faults: Iterable[Fault]) -> list[Fault]:
    """Leave out what other findings explain, drop repetitions, and order by severity and code."""
    unique: dict[tuple[str, str], Fault] = {}
    for item in faults:
        unique.setdefault((item.code, item.node), item)
    listed = list(unique.values())
    kept = [item for item in listed if not any(_explains(other, item) for other in listed)]
    return order(kept)


def order(faults: Iterable[Fault]) -> list[Fault]:
    """Put the worst first, then by code and place."""
    worst_first = list(Severity)[::-1]
    return sorted(faults, key=lambda item: (worst_first.index(item.severity), item.code, item.node))


def lasting(rounds: Sequence[Sequence[Fault]]) -> list[Fault]:
    """
    Return the findings of the last round, without those that an election would explain.

    Args:
        rounds: findings of each round, oldest first. What is transient must be in all of them.
    """
    if not rounds:
        return []
    seen = [{(item.code, item.node) for item in findings} for findings in rounds]
    return [
        item
        for item in rounds[-1]
        if not CHECKS[item.code].is_transient
        or all((item.code, item.node) in earlier for earlier in seen)
    ]


def _explains(root: Fault, item: Fault) -> bool:
    if root is item:
        return False
    if item.code in _ANYWHERE.get(root.code, ()):
        return True
    # What was recognised as the cause of a finding explains here what it explains by itself.
    if item.code not in (*_SAME.get(root.code, ()), *_SAME.get(root.cause, ())):
        return False
    return bool({root.node, *root.about} & {item.node, *item.about} - {""})
