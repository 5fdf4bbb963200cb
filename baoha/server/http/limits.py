"""
What one connection of an API listener may cost.

Rule of this file: values only; ``connection.py`` keeps to them.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """
    What one connection may cost. Durations are seconds, sizes are bytes.

    Attributes:
        handshake_s: for the TLS handshake.
        header_s: from the first byte of a request (or from the connect) to the end of its head.
        read_s: from the first byte of a request to the end of its body.
        body_grace_s, body_bytes_per_s: what the client may be waited for in all while a body comes
            in: so long, and longer by what has come.
        idle_s: between two requests on one connection.
        write_stall_s: for 64 KiB of a response to be taken by the client's side.
        header_bytes_max: request line and headers together. Go's limit is 1 MiB; here a head of
            that size would take half a second to parse, and 4 GiB on all connections together.
    """

    handshake_s: float = 10.0
    header_s: float = 10.0
    read_s: float = 30.0
    body_grace_s: float = 10.0
    body_bytes_per_s: int = 1024
    idle_s: float = 300.0
    write_stall_s: float = 30.0
    header_bytes_max: int = 65_536
