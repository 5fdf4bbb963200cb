"""
No regular expression of ours costs more than in proportion to its input.

Each pattern meets long runs of every kind of character that it names, and of every pair of them,
behind every such character, with and without an end that breaks the match. A pattern that
backtracks needs four times as long for twice as much; the slowest inputs of each are measured at
two sizes. The same words may take longer on a busy machine: the least of several attempts counts,
and what looks too slow is measured again at larger sizes, where the difference only grows.
"""

from __future__ import annotations

import heapq
import re

import pytest

from tests.support.pattern_cost import Use, all_uses, inputs, written

LENGTH = 300  # enough to tell which inputs are the slow ones
SLOWEST = 6
SIZES = ((1_000, 4_000), (2_000, 8_000), (4_000, 16_000), (8_000, 32_000))
# Linear is 4, quadratic is 16.
RATIO_MAX = 8.0


def slow_input(use: Use, *, retries: int = len(SIZES)) -> tuple[str, str, str] | None:
    """Return an input on which a pattern costs more than in proportion, or None."""
    slowest = heapq.nlargest(
        SLOWEST, inputs(use.pattern), key=lambda parts: use.cost(written(*parts, LENGTH))
    )
    return next((parts for parts in slowest if not is_linear(use, parts, retries)), None)


def is_linear(use: Use, parts: tuple[str, str, str], retries: int) -> bool:
    for sizes in SIZES[:retries]:
        small, large = (use.cost(written(*parts, size), attempts=5) for size in sizes)
        if large <= RATIO_MAX * small:
            return True
    return False


@pytest.mark.parametrize("use", all_uses("baoha", "baoha_cli"), ids=lambda use: use.id)
def test_pattern_on_long_runs_costs_in_proportion(use: Use) -> None:
    assert slow_input(use) is None, use.pattern.pattern


@pytest.mark.parametrize(
    ("pattern", "method"),
    [
        (r"(?:\s*;\s*\w+=\w+)*\s*;?\s*", "fullmatch"),
        (r"\s+x", "search"),
        (r"[ab]*a[ab]*c", "match"),
    ],
)
def test_pattern_that_backtracks_is_found(pattern: str, method: str) -> None:
    assert slow_input(Use("example", re.compile(pattern), method), retries=1) is not None
