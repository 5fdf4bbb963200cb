"""
The suites that every store must pass, shipped so that a store of somebody else can run them.

Read `suites` first; `data` has the parts for every store, `ha` those for HA stores.
"""

from __future__ import annotations

from baoha.storage.exercise.suites import exercise_backend, exercise_ha_backend

__all__ = [
    "exercise_backend",
    "exercise_ha_backend",
]
