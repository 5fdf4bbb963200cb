"""How long tokens and leases live where nothing else is said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

TTL_SYSTEM_S: Final = 32 * 24 * 3600  # 768 h


@dataclass(frozen=True, slots=True)
class TTLs:
    """
    The lifetimes of tokens and leases, in seconds.

    Attributes:
        default_s: of one that does not ask for any.
        max_s: the most that one may get, all renewals together.
    """

    default_s: int = TTL_SYSTEM_S
    max_s: int = TTL_SYSTEM_S

    def of_mount(self, config: Mapping[str, Any]) -> TTLs:
        """Return those of a mount, given its settings: 0 and "not set" mean the system's."""
        return TTLs(
            default_s=config.get("default_lease_ttl") or self.default_s,
            max_s=config.get("max_lease_ttl") or self.max_s,
        )


SYSTEM_TTLS: Final = TTLs()
