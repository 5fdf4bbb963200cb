"""How long tokens and leases live where nothing else is said."""

from __future__ import annotations

from typing import Final

TTL_SYSTEM_S: Final = 32 * 24 * 3600  # shown where a mount does not say otherwise: 768 h
