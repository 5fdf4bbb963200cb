"""
The catalogue: all codes, by their text.

Rule of this file: it only collects; what is said of a code stands in its row (`codes/`).

Source: docs/spec/cluster-cli.md section 6.2.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from types import MappingProxyType, ModuleType
from typing import Final

from baoha.diagnostics.code import Area, Code
from baoha.diagnostics.codes import (
    addresses,
    balancer,
    forwarding,
    health,
    leader,
    port,
    reach,
    redirects,
    tls,
)

# Headings, by the hundred.
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
ALL: Final = "all"
# The commands of `baoha diagnose` that look for codes.
AREAS: Final = (*(area.value for area in Area), ALL)


def group_of(code: Code) -> str:
    """Return the heading that a code stands under."""
    return GROUPS[code.hundred]


def in_area(code: Code, area: str) -> bool:
    """Return whether a command looks for a code."""
    return area == ALL or area in code.areas


def areas_of(code: Code) -> tuple[str, ...]:
    """Return the commands that look for a code, "all" left out."""
    return tuple(area.value for area in Area if area in code.areas)


def matches(code: Code, patterns: tuple[str, ...]) -> bool:
    """Return whether a code fits one of the patterns (``BH-3*``, ``3*``, case does not count)."""
    for pattern in patterns:
        text = pattern.strip().upper()
        if fnmatchcase(code.id, text if text.startswith("BH-") else f"BH-{text}"):
            return True
    return False


def rows_of(module: ModuleType) -> Iterator[Code]:
    """Yield the rows of one file."""
    return (value for value in vars(module).values() if isinstance(value, Code))


_FILES: Final = (addresses, reach, leader, forwarding, redirects, port, tls, balancer, health)
CODES: Final[Mapping[str, Code]] = MappingProxyType(
    {code.id: code for module in _FILES for code in rows_of(module)}
)
