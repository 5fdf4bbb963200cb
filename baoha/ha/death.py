"""
Has the process that holds the HA lock ended? The evidence.

Rules of this file: it takes two pieces of evidence, the holder's session with the store is gone
*and* its cluster port refuses connections; whatever else happens proves nothing. It gathers and
changes nothing: that the holder may be evicted is checked again inside the store's transaction.

The death of a *host* gives no evidence: nobody is left to refuse. It shows by the lock's expiry.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import trio

from baoha.cluster.network import Network
from baoha.ha.leader_picture import CheckDeath
from baoha.storage.base import HALock

PORT_CHECK_S = 0.5  # a living port on this machine or in this rack answers well within


async def is_proven_dead(
    check: CheckDeath, lock: HALock, *, network: Network, own_address: str
) -> bool:
    """
    Return whether the process of the lock's holder has ended. False: it cannot be proven.

    Args:
        own_address: URL of this node: nobody else can listen there, and who answers there is we.

    Raises:
        StorageError: the store does not answer.
    """
    if not await lock.holder_is_gone(check.record):
        return False
    if check.address is None or check.address == own_address:
        return True
    return await _refuses(network, check.address)


async def _refuses(network: Network, address: str) -> bool:
    try:
        url = urlsplit(address)
        port = url.port or (443 if url.scheme == "https" else 80)
    except ValueError:
        return False
    with trio.move_on_after(PORT_CHECK_S):
        try:
            stream = await network.connect(url.hostname or "", port)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
        await trio.aclose_forcefully(stream)
    return False
