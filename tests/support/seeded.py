"""
One seed, one run: trio with a virtual clock, a seeded scheduler, and tasks that can be frozen.

Rules of this file: it is the one home of trio's private knobs, so that a new trio breaks one file;
``tests/simulation/test_determinism.py`` notices when they stop working.

A frozen group of tasks models a process that is stopped (SIGSTOP) or dead (SIGKILL): not a single
step of it runs, deadlines that pass meanwhile are noticed only after the thaw, and everybody else
goes on. A dead group is never thawed until the run is torn down.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

import trio
import trio.testing
from trio._core import _run as trio_run

# Which group (a node's process, by a name of one incarnation) a task belongs to; inherited.
GROUP: ContextVar[str] = ContextVar("GROUP", default="")


class Freezer(trio.abc.Instrument):
    """Keeps the tasks of frozen groups off the run queue; calls ``after_step`` after every step."""

    def __init__(self) -> None:
        self.frozen: set[str] = set()
        self._held: dict[str, list[trio.lowlevel.Task]] = {}
        self.after_step: Callable[[], None] = lambda: None

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        """Take a frozen task off the queue again; it was just appended."""
        group = task.context.get(GROUP, "")
        if group in self.frozen:
            runq = trio_run.GLOBAL_RUN_CONTEXT.runner.runq
            assert runq[-1] is task
            runq.pop()
            self._held.setdefault(group, []).append(task)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """Let the invariants be checked."""
        self.after_step()

    def freeze(self, group: str) -> None:
        """Stop a group. Its tasks that are already on the queue are taken off."""
        self.frozen.add(group)
        runq = trio_run.GLOBAL_RUN_CONTEXT.runner.runq
        mine = [task for task in runq if task.context.get(GROUP, "") == group]
        for task in mine:
            runq.remove(task)
        self._held.setdefault(group, []).extend(mine)

    def stop_clock(self, group: str, seconds: float) -> None:
        """
        Let a frozen group's trio clock stand still for so long: every deadline comes later.

        A suspended host does that; only CLOCK_BOOTTIME tells it afterwards.
        """
        heap = trio_run.GLOBAL_RUN_CONTEXT.runner.deadlines._heap
        scopes = {scope for _, _, scope in heap if self._belongs(scope._cancel_status, group)}
        for scope in scopes:
            scope.deadline += seconds

    def _belongs(self, status: trio_run.CancelStatus | None, group: str) -> bool:
        if status is None:
            return False
        for task in status._tasks:
            return task.context.get(GROUP, "") == group
        return any(self._belongs(child, group) for child in status._children)

    def thaw(self, group: str) -> None:
        """Let a group run on, in the order in which its tasks became runnable."""
        self.frozen.discard(group)
        trio_run.GLOBAL_RUN_CONTEXT.runner.runq.extend(self._held.pop(group, ()))

    def thaw_all(self) -> None:
        """Let every group run, the dead included: the run is being torn down."""
        for group in [*self.frozen, *self._held]:
            self.thaw(group)


def run_seeded(main: Callable[[Freezer], Awaitable[None]], seed: int) -> None:
    """Run ``main`` with a virtual clock and the scheduler's order fixed by ``seed``."""
    freezer = Freezer()
    allowed = trio_run._ALLOW_DETERMINISTIC_SCHEDULING
    trio_run._ALLOW_DETERMINISTIC_SCHEDULING = True
    trio_run._r = random.Random(seed)
    try:
        trio.run(
            main,
            freezer,
            clock=trio.testing.MockClock(autojump_threshold=0),
            instruments=[freezer],
        )
    finally:
        trio_run._ALLOW_DETERMINISTIC_SCHEDULING = allowed
