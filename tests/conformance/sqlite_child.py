"""
A process for the sqlite tests to kill: writes and acknowledges, or holds the HA lock.

Usage: sqlite_child.py PATH write | hold
"""

from __future__ import annotations

import sys
import uuid

import trio

from baoha.storage.sqlite import open_backend


async def write(path: str) -> None:
    """Write keys from several tasks for ever; print each one once it was acknowledged."""
    backend = await open_backend({"path": path})
    run = uuid.uuid4()

    async def write_some(task: int) -> None:
        count = 0
        while True:
            key = f"run/{run}/{task}/{count}"
            await backend.put(key, key.encode() * 8)
            print(key, flush=True)
            count += 1

    async with trio.open_nursery() as nursery:
        for task in range(8):
            nursery.start_soon(write_some, task)


async def hold(path: str) -> None:
    """Acquire the lock for a minute, print the epoch, release it when a line is read."""
    backend = await open_backend({"path": path})
    lock = await backend.open_lock("core/lock", str(uuid.uuid4()))
    fence = await lock.acquire("child", ttl_s=60)
    assert fence is not None
    print(fence.epoch, flush=True)
    await trio.to_thread.run_sync(sys.stdin.readline)
    await lock.release(fence)
    print("released", flush=True)
    await trio.to_thread.run_sync(sys.stdin.readline)
    await backend.aclose()


if __name__ == "__main__":
    trio.run({"write": write, "hold": hold}[sys.argv[2]], sys.argv[1])
