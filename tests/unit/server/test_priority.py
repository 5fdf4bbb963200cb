"""The server's share of the CPU: asked for, and never a reason not to start."""

from __future__ import annotations

import subprocess
import sys

import pytest

from baoha.config.values import NICE, BadValue

PROGRAM = """
import os, resource, sys
from baoha.server.priority import raise_priority

given, asked, may = (int(text) for text in sys.argv[1:])
if given:
    os.nice(given)
if not may and os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
if not may:
    resource.setrlimit(resource.RLIMIT_NICE, (0, 0))
before = os.getpriority(os.PRIO_PROCESS, 0)
print(raise_priority(asked), os.getpriority(os.PRIO_PROCESS, 0) - before)
"""


def outcome(*, given: int = 0, asked: int = -10, may: bool = True) -> str:
    """Run it in a process of its own: a priority that was lowered cannot always be taken back."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(given), str(asked), str(int(may))],
        capture_output=True, text=True, check=True, timeout=30, start_new_session=True,
    )  # fmt: skip
    return done.stdout.strip()


def test_priority_asked_of_a_system_that_says_no_changes_nothing() -> None:
    assert outcome(may=False) == "False 0"


def test_priority_that_somebody_has_given_already_is_left_alone() -> None:
    assert outcome(given=5) == "False 0"


def test_priority_zero_asks_for_nothing() -> None:
    assert outcome(asked=0) == "False 0"


def test_priority_that_may_be_had_is_had() -> None:
    # To be nicer is allowed to everybody.
    assert outcome(asked=3) == "True 3"


@pytest.mark.parametrize("value", [-20, 0, 19, "-10", " 5 "])
def test_nice_value_in_its_range_is_taken(value: int | str) -> None:
    assert NICE.convert(value) == int(value)


@pytest.mark.parametrize("value", [-21, 20, "x", "", 1.5, True, "--1"])
def test_nice_value_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(BadValue):
        NICE.convert(value)  # type: ignore[arg-type]
