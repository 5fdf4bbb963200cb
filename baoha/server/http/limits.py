"""
What one connection of an API listener may cost, beyond what its configuration says.

Rule of this file: values only; ``connection.py`` keeps to them. What is a key of the listener is
read from its ``ListenerConfig``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# A limit of 0 means "none" to OpenBao; here every wait ends, after a day at the latest.
NO_LIMIT_S: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerLimits:
    """
    What one connection may cost. Durations are seconds, sizes are bytes.

    Attributes:
        handshake_s: for the TLS handshake.
        body_grace_s, body_bytes_per_s: what the client may be waited for in all while a body comes
            in: so long, and longer by what has come.
        write_stall_s: for 64 KiB of a response to be taken by the client's side, where the listener
            sets no limit.
        header_bytes_max: request line and headers together. Go's limit is 1 MiB; here a head of
            that size would take half a second to parse, and 4 GiB on all connections together.
    """

    handshake_s: float = 10.0
    body_grace_s: float = 10.0
    body_bytes_per_s: int = 1024
    write_stall_s: float = 30.0
    header_bytes_max: int = 65_536
