"""
Every duration of the HA machinery in one checked record.

Rule of this file: a relation between two durations that safety rests on is
checked here, at construction, and nowhere else. All values are seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Final

from baoha.errors import ConfigError

BootClock = Callable[[], float]

# Limits on what a peer does follow the delays that were measured, up to so many times their value.
PATIENCE_MAX: Final = 4.0
# Below, a duration is a mistake of units: timers of the event loop are no finer.
LEAST_S: Final = 0.001
HANDOVER_TTL_LEAST_S: Final = 0.1
# What is kept for a standby to take up a lock that nobody else wanted.
TAKE_OVER_MARGIN_S: Final = 0.5


def boot_time_s() -> float:
    """
    Return seconds on a clock that also counts the time the host was suspended.

    trio's clock stands still during a suspend; a tenure must not survive one unnoticed.
    Source: clock_gettime(2), CLOCK_BOOTTIME (Linux); elsewhere the monotonic clock.
    """
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _duration(default_s: float, doc: str) -> float:
    """Return a field that is documented: ``config`` makes a key of it."""
    made: float = field(default=default_s, metadata={"doc": doc})
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class HATiming:
    """
    Durations of the HA machinery, in seconds; each one is a key of the ``[ha]`` block.

    The words are those of the documentation.

    Raises:
        ConfigError: a value is below ``LEAST_S``, or a relation below does not hold.
    """

    lock_ttl_s: float = _duration(
        6.0, "how long the HA lock outlives its last renewal, by the store's clock"
    )
    renew_interval_s: float = _duration(1.5, "between two renewals")
    renew_timeout_s: float = _duration(2.0, "one renewal attempt")
    renew_retry_s: float = _duration(0.25, "pause after a failed renewal")
    expiry_margin_s: float = _duration(1.0, "the node stops this long before the store lets go")
    drain_s: float = _duration(2.0, "requests in flight may finish for so long at a planned change")
    park_s: float = _duration(5.0, "a request waits so long for a new active node")
    handover_wait_s: float = _duration(
        3.0, "a step-down waits so long for a standby to become ready"
    )
    handover_ttl_s: float = _duration(
        1.2, "a lock that was passed on waits so long for its successor to take it up"
    )
    step_down_pause_s: float = _duration(
        10.0, "the node that left does not compete for so long, if others can"
    )
    heartbeat_s: float = _duration(1.0, "standby to active node, over the cluster channel")
    heartbeat_timeout_s: float = _duration(2.5, "silence after which a channel counts as suspect")
    handshake_s: float = _duration(3.0, "connect, TLS and greeting on the cluster channel")
    reconnect_s: float = _duration(0.05, "first pause before the active node is dialled again")
    reconnect_max_s: float = _duration(1.0, "longest such pause")
    store_retry_s: float = _duration(0.1, "first pause after a storage error on a standby")
    store_retry_max_s: float = _duration(2.0, "longest such pause")
    watch_poll_s: float = _duration(
        0.25, "re-read of the lock where the store cannot announce changes"
    )
    cleanup_s: float = _duration(2.0, "bound of every clean-up")

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            # NaN fails this comparison too, as it should.
            if not LEAST_S <= value < 86_400:
                raise ConfigError(f"ha.{_key(one.name)} must be between 1ms and 24h, got {value!r}")
        self._require(
            self.renew_interval_s + self.renew_timeout_s + self.expiry_margin_s < self.lock_ttl_s,
            "renew_interval + renew_timeout + expiry_margin must be below lock_ttl: one renewal "
            "may fail or hang and the node must still notice before the lock expires",
        )
        self._require(
            self.heartbeat_s < self.heartbeat_timeout_s,
            "heartbeat must be below heartbeat_timeout",
        )
        self._require(
            HANDOVER_TTL_LEAST_S <= self.handover_ttl_s <= self.lock_ttl_s,
            f"handover_ttl must be between {HANDOVER_TTL_LEAST_S:g}s and lock_ttl: a successor "
            "needs some time to take the lock up",
        )
        self._require(
            self.drain_s + self.handover_ttl_s + TAKE_OVER_MARGIN_S < self.park_s,
            f"drain + handover_ttl + {TAKE_OVER_MARGIN_S:g}s must be below park: what waits "
            "must outlive a successor that freezes in the middle of a hand-over",
        )
        self._require(
            self.reconnect_s <= self.reconnect_max_s, "reconnect must not be above reconnect_max"
        )
        self._require(
            self.store_retry_s <= self.store_retry_max_s,
            "store_retry must not be above store_retry_max",
        )

    def check_store(
        self, op_timeout_s: float | None, *, ttl_min_s: float = 0.0, late_factor: float = 1.0
    ) -> None:
        """
        Check the durations against the store that holds the HA lock.

        Args:
            op_timeout_s: how long a call to it may take; None: not known. Such a call is not
                cancelled: a limit around it that is shorter bounds nothing.
            ttl_min_s: the shortest ttl that it grants.
            late_factor: so many times over a lock may outlive its ttl.

        Raises:
            ConfigError: a duration does not fit the store.
        """
        self._require(
            ttl_min_s <= min(self.handover_ttl_s, self.lock_ttl_s),
            f"handover_ttl and lock_ttl must not be below {ttl_min_s:g}s: the store grants no "
            "shorter lock",
        )
        self._require(
            self.drain_s + late_factor * self.handover_ttl_s + TAKE_OVER_MARGIN_S < self.park_s,
            f"drain + {late_factor:g} * handover_ttl + {TAKE_OVER_MARGIN_S:g}s must be below "
            "park: the store may let go of a lock so late, and what waits must outlive that",
        )
        if op_timeout_s is None:
            return
        self._require(
            op_timeout_s <= min(self.renew_timeout_s, self.cleanup_s),
            f"op_timeout of the store ({op_timeout_s:g}s) must not be above renew_timeout and "
            "cleanup: a renewal, or the release of the lock, that hangs must end in time",
        )

    @staticmethod
    def _require(condition: bool, relation: str) -> None:
        if not condition:
            raise ConfigError(f"ha: {relation}")


def _key(field_name: str) -> str:
    return field_name.removesuffix("_s")
