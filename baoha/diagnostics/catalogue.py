"""
The catalogue of checks: one entry per code, with everything `baoha explain` and the docs say.

Rules of this file. A code is for ever: its number and meaning never change. Words for codes that
`baoha status` knows too stand in `baoha.diagnostics.code`, and are read from there.

Theory of operation. The tables (`codes/`) hold rows; here they become `Check` records, are
registered with `baoha.diagnostics.code.CATALOGUE` and get the properties that steer the run: in
which area a code belongs, whether it may be an election in progress (then it is asked again),
whether it is shown only on request.

Source: docs/spec/cluster-cli.md section 6.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from baoha.diagnostics.code import CATALOGUE, Explanation, Severity, register
from baoha.diagnostics.codes.addresses import ROWS as _ADDRESS_ROWS
from baoha.diagnostics.codes.leader import ROWS as _CLUSTER_ROWS
from baoha.diagnostics.codes.port import ROWS as _NETWORK_ROWS
from baoha.diagnostics.codes.store import ROWS as _STORE_ROWS

GROUPS: Final = {
    "1": "Text of the addresses",
    "2": "Name and reach, from here",
    "3": "Who leads",
    "4": "Forwarding",
    "5": "Redirects",
    "6": "Cluster port",
    "7": "TLS",
    "8": "Load balancer",
    "9": "Time, version, health, store",
}

# What each command looks at, as patterns of codes.
AREAS: Final[dict[str, tuple[str, ...]]] = {
    "addresses": ("BH-[1-6]??", "BH-8??", "BH-90[3-9]", "BH-91?"),
    "forwarding": ("BH-[2-6]??", "BH-906", "BH-910", "BH-92[125]"),
    "tls": ("BH-20?", "BH-7??"),
    "lb": ("BH-20?", "BH-50[1-3]", "BH-8??"),
    "clock": ("BH-20?", "BH-703", "BH-90[12]"),
    "config": ("BH-1??", "BH-70[12]", "BH-811"),
    "all": ("BH-*",),
}

# Patterns that an election, or a node that just changes its role, shows for a moment too.
_TRANSIENT: Final = frozenset(
    {
        *(f"BH-30{digit}" for digit in range(1, 10)),
        *("BH-313", "BH-315", "BH-401", "BH-402", "BH-404", "BH-405", "BH-502", "BH-906", "BH-907"),
        *("BH-601", "BH-602", "BH-605", "BH-607", "BH-910", "BH-211", "BH-403", "BH-810"),
    }
)
# True of a healthy cluster too: facts worth knowing, printed when asked for by --only or --facts.
_ON_REQUEST: Final = frozenset(
    {"BH-406", "BH-407", "BH-508", "BH-608", "BH-801", "BH-808", "BH-909"}
)
# Explained, and for people to find: no probe from outside can see them for certain.
_BY_HAND: Final = frozenset({"BH-809", "BH-811", "BH-923", "BH-924", "BH-926"})
_TOKEN: Final = frozenset({"BH-314", "BH-317", "BH-318"})


@dataclass(frozen=True)
class Check:
    """
    One code, with all its words.

    Args:
        code: such as "BH-401".
        severity: usual severity.
        title: a few words.
        symptom: what people report; "" where they notice nothing.
        why: why it matters.
        fix: what to do.
    """

    code: str
    severity: Severity
    title: str
    symptom: str
    why: str
    fix: str

    @property
    def group(self) -> str:
        """The heading it stands under."""
        return GROUPS[self.code[3]]

    @property
    def is_transient(self) -> bool:
        """Whether an election can look like this for a moment."""
        return self.code in _TRANSIENT

    @property
    def is_on_request(self) -> bool:
        """Whether it is shown only when asked for."""
        return self.code in _ON_REQUEST

    @property
    def needs_token(self) -> bool:
        """Whether nothing can be said without a token."""
        return self.code in _TOKEN

    @property
    def is_by_hand(self) -> bool:
        """Whether no probe can see it."""
        return self.code in _BY_HAND

    @property
    def areas(self) -> tuple[str, ...]:
        """The commands that look for it, "all" left out."""
        return tuple(name for name in AREAS if name != "all" and in_area(self.code, name))

    def as_data(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "code": self.code,
            "severity": self.severity.value,
            "group": self.group,
            "title": self.title,
            "symptom": self.symptom or None,
            "why": self.why,
            "fix": self.fix,
            "areas": list(self.areas),
            "asked_again": self.is_transient,
            "on_request": self.is_on_request,
            "needs_token": self.needs_token,
            "by_hand": self.is_by_hand,
        }


def in_area(code: str, area: str) -> bool:
    """Tell whether a command looks for a code."""
    return matches(code, AREAS[area])


def matches(code: str, patterns: tuple[str, ...]) -> bool:
    """Tell whether a code fits one of the patterns (``BH-3*``, ``3*``, case does not count)."""
    wanted = code.upper()
    for pattern in patterns:
        text = pattern.strip().upper()
        if fnmatchcase(wanted, text if text.startswith("BH-") else f"BH-{text}"):
            return True
    return False


def _build() -> dict[str, Check]:
    checks: dict[str, Check] = {}
    for row in (*_ADDRESS_ROWS, *_CLUSTER_ROWS, *_NETWORK_ROWS, *_STORE_ROWS):
        known = CATALOGUE.get(row.code)
        if known is None:
            known = Explanation(row.code, row.severity, row.title, row.why, row.fix)
            register([known])
        checks[row.code] = Check(
            row.code, known.severity, known.title, row.symptom, known.why, known.fix
        )
    return dict(sorted(checks.items()))


CHECKS: Final[dict[str, Check]] = _build()
