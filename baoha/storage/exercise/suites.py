"""
Conformance suites for stores: what a store promises, as code that can be run against it.

Rules of this file:

1. The suites know the contract (``base``) and nothing of any store. What a store does not declare
   is not run, and the report says so.
2. A part leaves nothing behind that would disturb another: each has its own folder and lock key.

It is shipped, as ``trio.testing`` is: whoever writes a store runs these, under ``trio.run`` or in
a test. A failure is an ``AssertionError`` that names the part in a note.

Source: docs/spec/openbao-ha.md section 7.1; the idea is OpenBao's ExerciseBackend.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from baoha.errors import BaohaError
from baoha.storage.base import Backend, Capabilities, HABackend, HALock
from baoha.storage.exercise.data import DATA_PARTS, DataPart
from baoha.storage.exercise.ha import HA_PARTS, Contest, HAPart

# A store that hangs while it is closed must not hang the suite.
_CLOSE_S = 10.0

OpenBackend = Callable[[], Awaitable[Backend]]


@dataclass
class Report:
    """
    What a suite did.

    Attributes:
        passed: names of the parts that were run.
        not_run: name of a part to the capability that the store does not declare.
    """

    passed: list[str] = field(default_factory=list)
    not_run: dict[str, str] = field(default_factory=dict)


async def exercise_backend(open_backend: OpenBackend) -> Report:
    """
    Prove that a store keeps the contract of ``Backend``.

    Args:
        open_backend: opens the store; called once. It need not be empty.

    Raises:
        AssertionError: it does not keep the contract.
    """
    report = Report()
    backend = await open_backend()
    try:
        for part in DATA_PARTS:
            await _run_data_part(part, backend, report)
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLOSE_S):
            await backend.aclose()
    return report


async def exercise_ha_backend(
    open_backend: OpenBackend,
    *,
    ttl_s: float = 2.0,
    sleep: Callable[[float], Awaitable[object]] = trio.sleep,
) -> Report:
    """
    Prove that a store keeps the contract of ``HABackend``, fences included.

    Args:
        open_backend: opens the store; called several times, for contenders that must meet in the
            same store. What it returns must be an ``HABackend`` too.
        ttl_s: for the parts that let a lock expire; more than the store's slowest answers.
        sleep: lets the store's clock advance; a test with a clock of its own passes that.

    Raises:
        AssertionError: it does not keep the contract.
    """
    report = Report()
    for part in HA_PARTS:
        await _run_ha_part(part, open_backend, report, ttl_s, sleep)
    return report


async def _run_data_part(part: DataPart, backend: Backend, report: Report) -> None:
    name = part.__name__
    folder = f"exercise/{uuid.uuid4()}/"
    with _as_assertion(f"in part {name} of exercise_backend({backend.name})"):
        await part(backend, folder)
        await _remove(backend, folder)
    report.passed.append(name)


async def _run_ha_part(
    part: HAPart,
    open_backend: OpenBackend,
    report: Report,
    ttl_s: float,
    sleep: Callable[[float], Awaitable[object]],
) -> None:
    opened: list[Backend] = []
    name = part.run.__name__

    async def open_one() -> tuple[Backend, HABackend]:
        backend = await open_backend()
        opened.append(backend)
        assert isinstance(backend, HABackend), f"{backend.name} holds no locks"
        return backend, backend

    async def close_one(backend: Backend) -> None:
        opened.remove(backend)
        await backend.aclose()

    locks: list[HALock] = []
    try:
        first, first_ha = await open_one()
        missing = _missing(first.capabilities, ("ha", *part.needs))
        if missing is not None:
            report.not_run[name] = missing
            return
        contest = Contest(first, first_ha, open_one, close_one, ttl_s, sleep, locks)
        with _as_assertion(f"in part {name} of exercise_ha_backend({first.name})"):
            await part.run(contest)
        report.passed.append(name)
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _CLOSE_S):
            for lock in locks:
                await lock.aclose()
            for backend in opened:
                await backend.aclose()


@contextmanager
def _as_assertion(note: str) -> Iterator[None]:
    """Name the part; an error that the part did not ask for is a failure like any other."""
    try:
        yield
    except AssertionError as exc:
        exc.add_note(note)
        raise
    except (BaohaError, ExceptionGroup) as exc:
        failure = AssertionError(f"unexpected {type(exc).__name__}: {exc}")
        failure.add_note(note)
        raise failure from exc


def _missing(capabilities: Capabilities, needs: Sequence[str]) -> str | None:
    return next((need for need in needs if not getattr(capabilities, need)), None)


async def _remove(backend: Backend, folder: str) -> None:
    for child in await backend.list(folder):
        if child.endswith("/"):
            await _remove(backend, folder + child)
        else:
            await backend.delete(folder + child)
