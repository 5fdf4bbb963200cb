"""What would take a client too long to bring about: put into a node past its API."""

from __future__ import annotations

from baoha.core.keys.barrier import BarrierView
from baoha.node import Node


async def plant_mounts(node: Node, count: int) -> None:
    """
    Give an active node many mounts of type kv.

    They are written in one transaction past the mount table's own writes: enabled one by one,
    each reads all those before it.
    """
    mounts = node.inspect().core._mounts
    async with mounts._barrier.transaction() as transaction:
        for number in range(count):
            entry = mounts.new_entry("mounts", f"many{number}/", "kv")
            transaction.put(entry.storage_key, entry.to_bytes())
    await mounts.load()


def storage_of_mount(node: Node, path: str) -> BarrierView:
    """Return the storage of a mount's engine, for records that no request would write at once."""
    match = node.inspect().core._mounts.match(path)
    assert match is not None
    return match.target.context.storage
