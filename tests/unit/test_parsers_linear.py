"""
Every parser costs in proportion to its input, and raises nothing but its own errors.

Cost is counted, not timed: each function that is called, ours or C's, is a step. (What one call
costs is the business of test_patterns_linear.py.) Inputs are repetitions of what the parser's
language is made of, alone and in pairs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from itertools import product
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, run

# Alone, and in pairs. The former is long enough for what is read piece by piece.
LENGTH, PAIR_LENGTH = 20_000, 4_000
# A parser that looks at the rest of its input once for each part needs hundreds.
STEPS_PER_BYTE_MAX = 40


def steps(call: Callable[[], object]) -> int:
    count = 0

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("name", TARGETS)
def test_parser_needs_a_few_steps_for_a_byte(name: str) -> None:
    target = TARGETS[name]
    pairs = map(b"".join, product(target.examples, repeat=2))

    for unit, length in (
        *((unit, LENGTH) for unit in target.examples),
        *((unit, PAIR_LENGTH) for unit in pairs),
    ):
        data = target.beginning + unit * (length // len(unit)) + target.ending
        assert steps(partial(run, name, data)) <= STEPS_PER_BYTE_MAX * len(data), unit


@pytest.mark.parametrize("name", TARGETS)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_parser_whatever_the_bytes_raises_only_its_own_errors(
    name: str, data: st.DataObject
) -> None:
    target = TARGETS[name]
    parts = st.lists(st.sampled_from(target.examples) | st.binary(max_size=3), max_size=25)
    framed = data.draw(st.booleans())

    body = b"".join(data.draw(parts))
    run(name, target.beginning + body + target.ending if framed else body)
