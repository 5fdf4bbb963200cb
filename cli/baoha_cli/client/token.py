"""A client token."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Token:
    """
    A client token that does not show itself.

    ``source`` says where it came from; the value appears in no repr.
    """

    value: str = field(repr=False)
    source: str
