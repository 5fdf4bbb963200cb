"""Whether a lock that was passed on was taken up, by what the store's record shows."""

from __future__ import annotations

import pytest
import trio

from baoha.errors import NotTakenUp
from baoha.ha.passing import LockSightings, Passed
from baoha.storage.base import LockRecord

# The tenure that passed it on had epoch 1, so the lock as it was left has 2.
CASES = [
    ("successor", "", 2, "yet"),
    ("successor", "v", 3, None),
    ("other", "v", 3, "another node has"),
    ("other", "v", 4, "not kept it"),
    ("successor", "v", 4, None),
    # Taken up and passed on again, as planned.
    ("other", "", 4, None),
    ("other", "v", 5, None),
]


@pytest.mark.parametrize(("identity", "value", "epoch", "refusal"), CASES)
async def test_record_after_a_passed_lock_tells_whether_it_was_taken_up(
    identity: str, value: str, epoch: int, refusal: str | None, autojump_clock: object
) -> None:
    sightings = LockSightings()
    sightings.saw(LockRecord(identity=identity, value=value, epoch=epoch, expires_in_s=1.0))
    passed = Passed(
        identity="successor", name="successor", epoch=2, lapses_at=trio.current_time() + 1.2
    )
    if refusal is None:
        await sightings.wait_taken_up(passed, grace_s=0.5)
        return
    with pytest.raises(NotTakenUp, match=refusal):
        await sightings.wait_taken_up(passed, grace_s=0.5)


@pytest.mark.parametrize(
    ("identity", "is_reserved", "refusal"),
    [
        ("successor", True, None),
        ("successor", False, None),
        ("other", False, None),
        ("other", True, "not"),
    ],
)
async def test_lock_that_was_left_for_anybody_may_be_taken_up_by_anybody(
    identity: str, is_reserved: bool, refusal: str | None, autojump_clock: object
) -> None:
    sightings = LockSightings()
    sightings.saw(LockRecord(identity=identity, value="v", epoch=2, expires_in_s=1.0))
    passed = Passed(
        identity="successor",
        name="successor",
        epoch=1,
        lapses_at=trio.current_time() + 1.2,
        is_reserved=is_reserved,
    )
    if refusal is None:
        await sightings.wait_taken_up(passed, grace_s=0.5)
        return
    with pytest.raises(NotTakenUp, match=refusal):
        await sightings.wait_taken_up(passed, grace_s=0.5)
