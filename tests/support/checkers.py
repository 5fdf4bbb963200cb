"""
What must always hold (ARCHITECTURE.md, "Invariants"), watched from outside the code under test.

Rules of this file: a checker keeps a second, deliberately simple account of the truth; it never
asks the code under test whether it is right. It raises ``Violation`` with what it saw.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import trio

from baoha import names
from baoha.node import Node
from baoha.sansio.ha_state import Phase
from baoha.storage.base import Batch, Fence, LockRecord
from baoha.storage.inmem import Observer


class Violation(AssertionError):
    """An invariant does not hold."""


class Verdict:
    """
    Collects violations. trio swallows what an instrument raises, and a node would answer what its
    store raises with a 500; so nobody raises before the run is over.
    """

    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self.on_violation: Callable[[], None] = lambda: None

    def report(self, text: str) -> None:
        """Remember a violation, with its time."""
        self.violations.append(Violation(f"{trio.current_time():.3f} {text}"))
        self.on_violation()

    def enforce(self) -> None:
        """Raise the first violation."""
        if self.violations:
            raise self.violations[0]


class StoreChecker(Observer):
    """
    Invariants 1 and 2, seen from the store: one unexpired tenure, no write of an older one.

    Attributes:
        dead: identities of processes that have ended; they may be evicted before their ttl.
    """

    def __init__(self, verdict: Verdict) -> None:
        self._verdict = verdict
        self.dead: set[str] = set()
        self.epochs: list[tuple[int, str]] = []
        self._holder: str | None = None
        self._epoch = 0
        self._expires_at = 0.0
        self._successor: str | None = None

    def applied(self, batch: Batch, fence: Fence | None) -> None:
        if fence is None:
            if self._epoch:
                self._verdict.report(f"unfenced write after a tenure: {sorted(batch.writes)}")
            return
        now = trio.current_time()
        if fence.epoch != self._epoch or fence.identity != self._holder:
            self._verdict.report(
                f"write of epoch {fence.epoch} landed in epoch {self._epoch}: "
                f"{sorted(batch.writes)}"
            )
        if now > self._expires_at:
            self._verdict.report(f"write {now - self._expires_at:.3f} s after the lock expired")

    def lock_changed(self, key: str, record: LockRecord | None, epoch: int) -> None:
        if key != names.HA_LOCK:
            return
        now = trio.current_time()
        if epoch < self._epoch:
            self._verdict.report(f"epoch went back from {self._epoch} to {epoch}")
        if record is None:
            self._holder, self._epoch = None, epoch
            return
        if record.identity != self._holder:
            held = self._holder is not None and now < self._expires_at
            handed_over = record.value == ""  # only a hand-over writes a record without a tenure
            if held and not handed_over and self._holder not in self.dead:
                self._verdict.report(f"{record.identity} took the lock that {self._holder} held")
            if epoch <= self._epoch:
                self._verdict.report(f"the holder changed without a new epoch: {epoch}")
        if epoch != self._epoch:
            self.epochs.append((epoch, record.identity))
        self._holder, self._epoch = record.identity, epoch
        self._expires_at = now + record.expires_in_s


class NodeChecker:
    """Invariants 3 and 6, seen from the nodes: who would answer now, who holds keys."""

    def __init__(self, verdict: Verdict) -> None:
        self._verdict = verdict

    def check(self, nodes: Iterable[tuple[str, Node]]) -> None:
        """Check all nodes; called after every step of every task."""
        if self._verdict.violations:
            return
        serving = []
        for name, node in nodes:
            seen = node.inspect()
            if seen.admitting is not None:
                if seen.phase is not Phase.ACTIVE:
                    self._verdict.report(f"{name}: open gate while {seen.phase.value}")
                if seen.admitting.is_valid():
                    serving.append(name)
            is_sealed = seen.phase is Phase.SEALED
            if is_sealed and not seen.barrier.sealed and seen.loop is not None:
                self._verdict.report(f"{name}: sealed, and yet there are keys")
        if len(serving) > 1:
            self._verdict.report(f"two nodes would answer from their own state: {serving}")


@dataclass
class _Register:
    """One key with one writer: what was tried, what was acknowledged."""

    acked_version: int = 0
    tried: dict[int, set[str]] = field(default_factory=dict)
    refused: set[tuple[int, str]] = field(default_factory=set)


class DataChecker:
    """
    Invariants 4 and 5, seen by clients: acknowledged writes are read back, refused ones never are.

    Every key has one writer that uses check-and-set, so its versions are a total order: a read
    that began after version n was acknowledged must return n or later, with a value that was tried
    for exactly that version.
    """

    def __init__(self) -> None:
        self._registers: dict[str, _Register] = {}
        self.acknowledged = 0
        self.reads = 0

    def trying(self, key: str, version: int, value: str) -> None:
        """A write that would become ``version`` is about to be sent."""
        register = self._registers.setdefault(key, _Register())
        register.tried.setdefault(version, set()).add(value)

    def acked(self, key: str, version: int, value: str) -> None:
        """It was acknowledged."""
        register = self._registers[key]
        if (version, value) in register.refused:
            raise Violation(f"{key}: version {version} acknowledged after it was refused")
        register.acked_version = max(register.acked_version, version)
        # Nothing else that was tried for this version can have landed.
        for other in register.tried[version] - {value}:
            register.refused.add((version, other))
        self.acknowledged += 1

    def refused(self, key: str, version: int, value: str) -> None:
        """It was answered with "not applied": it must never be seen."""
        self._registers[key].refused.add((version, value))

    def floor(self, key: str) -> int:
        """Return the version that a read beginning now must not fall below."""
        register = self._registers.get(key)
        return register.acked_version if register else 0

    def read(self, key: str, floor: int, version: int, value: str | None) -> None:
        """A read that began at ``floor`` returned this (version 0: there is nothing)."""
        self.reads += 1
        if version < floor:
            raise Violation(f"{key}: read version {version} after {floor} was acknowledged")
        if version == 0:
            return
        register = self._registers.get(key, _Register())
        if value not in register.tried.get(version, set()):
            raise Violation(f"{key}: version {version} holds {value!r}, which nobody wrote there")
        if (version, value) in register.refused:
            raise Violation(f"{key}: version {version} holds {value!r}, which was refused")
