"""Pauses between attempts on a store that does not answer."""

from __future__ import annotations

from baoha.storage.retry import Backoff


def test_pause_after_each_failure_doubles_up_to_the_limit() -> None:
    backoff = Backoff(0.5, 3.0)
    assert [backoff.next_s() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_pause_after_a_success_begins_anew() -> None:
    backoff = Backoff(0.5, 3.0)
    backoff.next_s()
    backoff.next_s()
    backoff.reset()
    assert backoff.next_s() == 0.5
