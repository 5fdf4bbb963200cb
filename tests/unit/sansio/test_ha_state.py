"""The role table: every legal row, and every other pair refused."""

import itertools

import pytest
import trio
import trio.testing

from baoha.core.view import NodeStatus, Role
from baoha.ha.status_publisher import StatusPublisher
from baoha.sansio.ha_state import TRANSITIONS, HAEvent, IllegalTransition, Phase, next_phase


def make_board() -> StatusPublisher:
    return StatusPublisher(
        NodeStatus(
            revision=0,
            node_id="n",
            initialized=True,
            sealed=True,
            role=Role.SEALED,
            ha_enabled=True,
        )
    )


@pytest.mark.parametrize(("phase", "event"), list(itertools.product(Phase, HAEvent)))
def test_transition_any_pair_follows_the_table_or_raises(phase: Phase, event: HAEvent) -> None:
    if (phase, event) in TRANSITIONS:
        assert next_phase(phase, event) is TRANSITIONS[phase, event]
    else:
        with pytest.raises(IllegalTransition):
            next_phase(phase, event)


def test_table_active_is_reached_only_through_the_lock() -> None:
    into_active = {pair for pair, after in TRANSITIONS.items() if after is Phase.ACTIVE}
    assert into_active == {(Phase.ENTERING, HAEvent.DUTY_READY)}
    into_entering = {pair for pair, after in TRANSITIONS.items() if after is Phase.ENTERING}
    assert into_entering == {(Phase.STANDBY, HAEvent.LOCK_ACQUIRED)}


def test_table_every_tenure_ends_in_standby() -> None:
    for phase in (Phase.ENTERING, Phase.ACTIVE, Phase.LEAVING):
        assert next_phase(phase, HAEvent.TENURE_ENDED) is Phase.STANDBY


def test_board_illegal_event_changes_nothing() -> None:
    publisher = make_board()
    before = publisher.status
    with pytest.raises(IllegalTransition):
        publisher.apply(HAEvent.DUTY_READY, epoch=7)
    assert publisher.status is before
    assert publisher.phase is Phase.SEALED


def test_board_publish_of_the_same_values_wakes_nobody() -> None:
    publisher = make_board()
    publisher.publish(initialized=True)
    assert publisher.status.revision == 0


async def test_board_change_wakes_a_waiter_with_the_new_revision(autojump_clock: object) -> None:
    publisher = make_board()
    seen = publisher.status
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publisher.wait_change, seen)
        await trio.testing.wait_all_tasks_blocked()
        publisher.apply(HAEvent.UNSEALED)
    assert publisher.status.role is Role.STANDBY
    assert publisher.status.revision == 1
