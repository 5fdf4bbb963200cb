"""Options and fixtures for all tests."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the simulation."""
    group = parser.getgroup("simulation")
    group.addoption("--seeds", type=int, default=500, help="how many seeds to run")
    group.addoption("--first-seed", type=int, default=1000, help="where they begin")
    group.addoption("--seed", type=int, default=None, help="run this seed alone")
