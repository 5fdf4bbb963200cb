"""The verdicts of the laboratory: what is lost, stale, executed twice, and how long a gap was."""

from __future__ import annotations

import pytest

from benchmarks.tables import table
from testbed.records import (
    OK,
    READ,
    WRITE,
    Record,
    failures,
    failures_by_node,
    find_damage,
    gaps,
    sent_between,
    stale_reads,
)


def write(
    started: float,
    ended: float,
    *,
    node: int = 0,
    outcome: str = OK,
    value: int = 1,
    version: int = 1,
) -> Record:
    return Record(WRITE, node, "k", started, ended, outcome, value, version)


def read(version: int, acknowledged_before: int) -> Record:
    return Record(READ, 0, "k", 0.0, 1.0, OK, 1, version, acknowledged_before)


def test_damage_of_what_is_stored_as_acknowledged_is_none() -> None:
    records = [write(0, 1, value=1, version=1), write(1, 2, value=2, version=2)]
    damage = find_damage(records, {"k": {1: 1, 2: 2}}, 10)
    assert (damage.lost, damage.overwritten, damage.executed_twice) == ([], [], [])


@pytest.mark.parametrize("stored", [{}, {"k": {}}, {"k": {1: 7}}, {"k": {3: 9}}])
def test_damage_of_an_acknowledged_write_that_is_not_there_is_a_loss(
    stored: dict[str, dict[int, int]],
) -> None:
    assert len(find_damage([write(0, 1, value=5, version=2)], stored, 10).lost) == 1


def test_damage_of_an_old_version_that_is_no_longer_kept_is_none() -> None:
    stored = {"k": {version: version for version in range(3, 13)}}
    assert find_damage([write(0, 1, value=2, version=2)], stored, 10).lost == []
    assert len(find_damage([write(0, 1, value=2, version=3)], stored, 10).overwritten) == 1


def test_damage_of_another_value_under_the_version_is_an_overwrite() -> None:
    damage = find_damage([write(0, 1, value=5, version=1)], {"k": {1: 6}}, 10)
    assert damage.overwritten == ["k version 1 value 5, is 6"]


def test_damage_of_one_value_in_two_versions_is_a_double_execution() -> None:
    damage = find_damage([write(0, 1, value=5, version=1)], {"k": {1: 5, 2: 5}}, 10)
    assert damage.executed_twice == ["k value 5, 2 times"]


def test_damage_of_a_failed_write_is_none_whether_it_is_there_or_not() -> None:
    failed = write(0, 1, outcome="status 503", value=5, version=0)
    states: list[dict[str, dict[int, int]]] = [{"k": {1: 5}}, {"k": {}}]
    for stored in states:
        damage = find_damage([failed], stored, 10)
        assert (damage.lost, damage.overwritten, damage.executed_twice) == ([], [], [])


@pytest.mark.parametrize(
    ("version", "acknowledged", "is_stale"),
    [(1, 2, True), (2, 2, False), (3, 2, False), (0, 1, True)],
)
def test_read_of_less_than_was_acknowledged_is_stale(
    version: int, acknowledged: int, is_stale: bool
) -> None:
    assert bool(stale_reads([read(version, acknowledged)])) == is_stale


def test_gap_spans_two_answers_and_wait_begins_with_the_request() -> None:
    records = [write(0.9, 1.0), write(1.5, 3.0), write(2.0, 3.1), write(4.0, 4.1)]
    (gap,) = gaps(records, [0], start=0.5, end=3.5)
    assert gap.gap_s == pytest.approx(2.0)
    assert gap.wait_s == pytest.approx(1.5)


def test_gap_wait_goes_on_over_failures_until_a_later_request_succeeds() -> None:
    records = [
        write(0.0, 0.1),
        write(1.0, 1.1, outcome="redirect"),
        # Sent before the failure: its success says nothing about one who asks after it.
        write(0.9, 5.0),
        write(3.0, 3.1),
    ]
    (gap,) = gaps(records, [0], start=0.0, end=4.0)
    assert gap.wait_s == pytest.approx(2.2)  # sent at 0.9, answered at 3.1 at the earliest
    assert gap.gap_s == pytest.approx(3.0)


def test_gap_of_a_node_that_never_answers_again_is_unknown() -> None:
    answered, silent = gaps(
        [write(0.0, 0.1), write(1.0, 1.1), write(1.0, 9.0, node=1, outcome="timeout")],
        [0, 1],
        start=0.0,
        end=2.0,
    )
    assert answered.gap_s is not None
    assert silent.gap_s is None
    assert silent.wait_s is None


def test_failures_are_counted_by_kind_and_by_node() -> None:
    records = [write(0, 1), write(0, 1, outcome="reset"), write(2, 3, node=1, outcome="reset")]
    assert failures(records) == {"reset": 2}
    assert failures_by_node(records) == {0: {"reset": 1}, 1: {"reset": 1}}
    assert sent_between(records, 1.0, 9.0) == records[2:]


def test_table_puts_numbers_to_the_right_and_shows_what_is_missing() -> None:
    lines = table(("name", "ms"), [("a", 1.234), ("bc", None), ("d", 123.4)]).splitlines()
    assert lines == ["name    ms", "----  ----", "a     1.23", "bc       -", "d      123"]
