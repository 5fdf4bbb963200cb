"""
What the kernel takes of an answer at once.

Rule of this file: nothing here waits. Whatever is in the way, an error too, is left to whoever
waits.

Theory of operation. The buffer of a socket has mostly room for the whole answer. To make ready for
a wait (a lock, a deadline, a round of the loop) costs several times what sending does.

Source: ours.
"""

from __future__ import annotations

import os
from typing import Final

import trio

# A response leaves in pieces of this size; each piece has ``write_stall_s`` of its own.
SEND_BYTES: Final = 65_536


def send_at_once(stream: trio.SocketStream, data: bytes) -> int:
    """
    Return how many bytes of a first piece the kernel has taken without anybody waiting.

    Args:
        stream: without TLS; nobody else may be sending on it.
    """
    try:
        # Asked anew each time: of a closed stream it is no descriptor, never somebody else's.
        return os.write(stream.socket.fileno(), memoryview(data)[:SEND_BYTES])
    except OSError:
        return 0
