"""How long a peer may be silent: bounds, growth, fading."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baoha.sansio.patience import PeerPatience
from baoha.timing import PATIENCE_MAX

DELAYS = st.floats(0.0, 1e6)


def after(*delays_s: float) -> PeerPatience:
    patience = PeerPatience()
    for delay_s in delays_s:
        patience.observe(delay_s)
    return patience


@given(
    observed=st.lists(st.tuples(st.sampled_from(["peer", "own", "expired"]), DELAYS)),
    base_s=st.floats(0.01, 100.0),
)
def test_patience_is_never_below_the_limit_nor_above_its_maximum(
    observed: list[tuple[str, float]], base_s: float
) -> None:
    patience = PeerPatience()
    for kind, delay_s in observed:
        if kind == "peer":
            patience.observe(delay_s)
        elif kind == "own":
            patience.observe_own(delay_s)
        else:
            patience.expired()
        assert base_s <= patience.allow(base_s) <= PATIENCE_MAX * base_s


def test_patience_before_any_observation_is_the_configured_limit() -> None:
    assert PeerPatience().allow(2.5) == 2.5


@pytest.mark.parametrize("delay_s", [0.5, 1.0, 2.0])
def test_patience_with_a_peer_that_is_always_late_covers_its_lateness(delay_s: float) -> None:
    assert after(*[delay_s] * 50).allow(2.5) >= 2.5 + delay_s


def test_patience_with_a_peer_that_is_late_at_times_covers_the_spread() -> None:
    assert after(*[0.0, 1.5] * 20).allow(2.5) >= 2.5 + 1.5


def test_patience_fades_when_delays_have_ended() -> None:
    patience = after(*[9.0] * 10)
    assert patience.allow(2.5) == 10.0
    for _ in range(60):
        patience.observe(0.0)
    assert patience.allow(2.5) == pytest.approx(2.5, abs=0.1)


def test_delay_of_this_process_counts_at_once_and_fades() -> None:
    patience = PeerPatience()
    patience.observe_own(0.5)
    assert patience.allow(2.5) == pytest.approx(2.5 + 4 * 0.5)
    for _ in range(30):
        patience.observe_own(0.0)
    assert patience.allow(2.5) == pytest.approx(2.5, abs=0.01)


def test_limits_that_pass_unanswered_double_until_there_is_an_answer() -> None:
    patience = PeerPatience()
    limits = []
    for _ in range(6):
        limits.append(patience.allow(3.0))
        patience.expired()
    assert limits == [3.0, 3.0, 6.0, 6.0, 12.0, 12.0]
    patience.observe(0.0)
    assert patience.allow(3.0) == 3.0
