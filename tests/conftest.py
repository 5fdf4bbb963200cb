"""Options and fixtures for all tests."""

from __future__ import annotations

import gc
import signal

import pytest
import trio.testing

from tests.support.virtual_clock import patient_clock


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the simulation, and of scenarios in text files."""
    group = parser.getgroup("simulation")
    group.addoption("--seeds", type=int, default=500, help="how many seeds to run")
    group.addoption("--first-seed", type=int, default=1000, help="where they begin")
    group.addoption("--seed", type=int, default=None, help="run this seed alone")
    parser.getgroup("scenarios").addoption(
        "--rewrite", action="store_true", help="write what is said now into the scenario files"
    )


def pytest_configure() -> None:
    """Have the programs under test interruptible, also where the tests run in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # what a shell gives to jobs with "&"
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """
    Have the garbage collector look at what tests make, not at the thousands of tests themselves: a
    node that seals collects all garbage, which took longer than the rest of many tests.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture
def autojump_clock() -> trio.testing.MockClock:
    """
    A virtual clock that stands still while a worker thread computes, in place of pytest-trio's.

    trio's own jumps as soon as every task waits, also for a thread: on a slow machine a request
    whose body is decoded in one would then time out after seconds that nobody has waited.
    """
    return patient_clock()
