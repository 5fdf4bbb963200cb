"""Durations of the HA machinery: the relations that safety and parked requests rest on."""

from __future__ import annotations

from dataclasses import fields

import pytest

from baoha.errors import ConfigError
from baoha.timing import HATiming


def test_default_durations_hold_every_relation() -> None:
    timing = HATiming()
    assert timing.drain_s + timing.handover_ttl_s < timing.park_s
    assert 1.0 <= timing.handover_ttl_s <= 1.5


@pytest.mark.parametrize(
    ("changed", "relation"),
    [
        ({"lock_ttl_s": 4.5}, "below lock_ttl"),
        ({"heartbeat_s": 2.5}, "heartbeat must be below heartbeat_timeout"),
        ({"reconnect_s": 1.1}, "reconnect must not be above"),
        ({"store_retry_s": 2.1}, "store_retry must not be above"),
        ({"park_s": 3.7}, "handover_ttl .* must be below park"),
        ({"drain_s": 3.3}, "handover_ttl .* must be below park"),
        ({"handover_ttl_s": 2.5}, "handover_ttl .* must be below park"),
        ({"handover_ttl_s": 6.5, "park_s": 10.0}, "handover_ttl must be between 0.1s and lock_ttl"),
        ({"handover_ttl_s": 0.001}, "handover_ttl must be between 0.1s and lock_ttl"),
        ({"heartbeat_s": 1e-9}, "ha.heartbeat must be between 1ms and 24h"),
    ],
)
def test_durations_that_break_a_relation_are_refused(
    changed: dict[str, float], relation: str
) -> None:
    with pytest.raises(ConfigError, match=relation):
        HATiming(**changed)


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), 86_400.0])
@pytest.mark.parametrize("name", [field.name for field in fields(HATiming)])
def test_duration_that_is_none_is_refused(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"ha.{name.removesuffix('_s')} must be between"):
        HATiming(**{name: value})


@pytest.mark.parametrize(
    ("traits", "text"),
    [
        ({"ttl_min_s": 1.2}, ""),
        ({"ttl_min_s": 1.3}, "handover_ttl and lock_ttl must not be below 1.3s"),
        ({"late_factor": 2.0}, ""),
        ({"late_factor": 2.1}, r"drain \+ 2.1 \* handover_ttl \+ 0.5s must be below park"),
    ],
)
def test_durations_fit_how_the_store_keeps_the_time_of_its_locks(
    traits: dict[str, float], text: str
) -> None:
    timing = HATiming()
    if not text:
        timing.check_store(None, **traits)
        return
    with pytest.raises(ConfigError, match=text):
        timing.check_store(None, **traits)
