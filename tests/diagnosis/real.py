"""
Real clusters for the lab, shared by the tests of a session.

Rules of this file. Clusters run in one thread of their own with its own trio loop, since commands
are run from the test's thread as they run in a terminal. That thread lives as long as the session:
the kernel ends the servers with it.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from queue import Queue
from typing import Any

import trio

from testbed.clusters import Cluster, RunningNode, run_cluster
from testbed.descriptions import load_description


class RealLab:
    """Runs clusters in the background. Owns: the thread and all servers; ``close`` ends them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ready: Queue[trio.lowlevel.TrioToken] = Queue()
        self._clusters: dict[str, Cluster] = {}
        self._stack = AsyncExitStack()
        self._end = trio.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._main,), daemon=True)
        self._thread.start()
        self._token = self._ready.get(timeout=10)

    def close(self) -> None:
        """End everything."""
        self._token.run_sync_soon(self._end.set)
        self._thread.join(60)

    def run(self, function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
        """Run an async function beside the clusters and return its result."""
        return trio.from_thread.run(function, *args, trio_token=self._token)

    def cluster(self, kind: str, *, config: Mapping[str, str] | None = None) -> Cluster:
        """
        Return a running cluster; the same arguments give the same one.

        Args:
            kind: a description of the benchmarks, such as "openbao-raft".
            config: replacements in the configuration of every node.
        """
        name = f"{kind}-{sorted((config or {}).items())}"
        if name not in self._clusters:
            self._clusters[name] = self.run(self._open, kind, config or {})
        return self._clusters[name]

    def restart(
        self, cluster: Cluster, edit: Callable[[RunningNode, str], str] | None = None
    ) -> None:
        """
        Restart all nodes with changed configurations; the first one becomes active.

        Args:
            cluster: one of this lab.
            edit: gets a node and its original configuration; None restores that.
        """
        self.run(self._restart, cluster, edit)

    async def _main(self) -> None:
        async with self._stack:
            self._ready.put(trio.lowlevel.current_trio_token())
            await self._end.wait()

    async def _open(self, kind: str, config: Mapping[str, str]) -> Cluster:
        description = load_description(kind)
        text = description.config
        for old, new in config.items():
            if old not in text:
                raise ValueError(f"{kind} has no {old!r}")
            text = text.replace(old, new)
        folder = self._folder / f"cluster{len(self._clusters)}"
        folder.mkdir()
        context = run_cluster(replace(description, config=text), folder=folder)
        cluster = await self._stack.enter_async_context(context)
        for node in cluster.nodes:
            node.original = node.config  # type: ignore[attr-defined]
        return cluster

    async def _restart(
        self, cluster: Cluster, edit: Callable[[RunningNode, str], str] | None
    ) -> None:
        async with trio.open_nursery() as nursery:
            for node in cluster.nodes:
                if node.is_running:
                    nursery.start_soon(node.terminate)
        for node in cluster.nodes:
            original: str = node.original  # type: ignore[attr-defined]
            node.config = edit(node, original) if edit else original
        first, *others = cluster.nodes
        await cluster.start_node(first, ready=False)
        await cluster.wait_active((first,))
        for node in others:
            await cluster.start_node(node, ready=False)
        with trio.fail_after(20):
            for node in others:
                await _wait_for_leader(node)


async def _wait_for_leader(node: RunningNode) -> None:
    """Return when a standby names a leader; it says so nowhere else."""
    while True:
        response = await node.call("GET", "/v1/sys/leader")
        if response.status == 200 and response.json().get("leader_address"):
            return
        await trio.sleep(0.05)
