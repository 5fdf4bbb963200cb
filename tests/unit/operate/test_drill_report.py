"""What a drill concludes from its attempts: gaps, lost and repeated writes, verdicts."""

from __future__ import annotations

import pytest
from baoha_cli.exits import Verdict
from baoha_cli.operate.drill_report import Attempt, DrillResult, NodeLog, longest_gap_s, text_of
from hypothesis import given
from hypothesis import strategies as st


def log(label: str, *kinds: str, unknown: bool = False, **others: object) -> NodeLog:
    """Return a log with one attempt per second."""
    attempts = [
        Attempt(float(number), number + 0.5, kind, number + 1, unknown and kind != "ok")
        for number, kind in enumerate(kinds)
    ]
    return NodeLog(label, attempts, **others)  # type: ignore[arg-type]


def result(*logs: NodeLog, **others: object) -> DrillResult:
    values = {"action": "failover", "old": "a", "new": "b", "max_gap_s": None, "took_s": 9.0}
    return DrillResult(logs=logs, **{**values, **others})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kinds", "gap_s"),
    [
        ((), 0.0),
        (("ok", "ok", "ok"), 0.0),
        (("ok", "503", "ok"), 2.0),
        (("ok", "503", "307", "ok", "503", "ok"), 3.0),
        (("ok", "503", "503"), 2.0),
        (("503", "503"), 1.5),
        (("503", "ok"), 1.5),
    ],
)
def test_gap_lies_between_acknowledged_writes(kinds: tuple[str, ...], gap_s: float) -> None:
    assert longest_gap_s(log("a", *kinds).attempts) == gap_s


@given(st.lists(st.sampled_from(["ok", "503"]), max_size=30))
def test_gap_is_never_longer_than_the_drill(kinds: list[str]) -> None:
    attempts = log("a", *kinds).attempts
    assert 0 <= longest_gap_s(attempts) <= len(kinds)
    if "503" not in kinds:
        assert longest_gap_s(attempts) == 0


@pytest.mark.parametrize(
    ("found", "lost", "duplicated"),
    [
        ({"final_number": 3, "final_version": 3}, 0, 0),
        ({"final_number": 2, "final_version": 2}, 1, 0),
        ({"final_number": 3, "final_version": 2}, 1, 0),
        ({"final_number": 3, "final_version": 5}, 0, 2),
        ({"final_number": 3}, 0, None),
        ({}, None, None),
    ],
)
def test_lost_and_repeated_writes_are_counted(
    found: dict[str, int], lost: int | None, duplicated: int | None
) -> None:
    one = log("a", "ok", "ok", "ok", **found)
    assert (one.lost, one.duplicated) == (lost, duplicated)


def test_write_that_may_have_been_applied_is_no_duplicate() -> None:
    one = log("a", "ok", "timeout", "ok", unknown=True, final_number=3, final_version=3)
    assert (one.lost, one.duplicated, one.unknown) == (0, 0, 1)


GOOD = log("b", "ok", "503", "ok", final_number=3, final_version=2)


@pytest.mark.parametrize(
    ("made", "verdict", "tests"),
    [
        (result(GOOD), Verdict.OK, []),
        (result(GOOD, max_gap_s=2.0), Verdict.OK, []),
        (result(GOOD, max_gap_s=1.0), Verdict.NO, ["gap"]),
        (result(log("b", "ok", "503")), Verdict.TIMEOUT, ["recovery"]),
        (result(GOOD, log("a", "ok", "refused", was_broken=True)), Verdict.OK, []),
        (result(log("b", "ok"), new="a"), Verdict.NO, ["failover"]),
        (
            result(log("b", "503", "ok", final_number=1, final_version=1)),
            Verdict.NO,
            ["lost"],
        ),
        (
            result(log("b", "503", "ok", final_number=2, final_version=4)),
            Verdict.NO,
            ["duplicated"],
        ),
    ],
    ids=["good", "gap fits", "gap", "away", "broken stays away", "nothing", "lost", "twice"],
)
def test_verdict_of_drill_names_what_went_wrong(
    made: DrillResult, verdict: Verdict, tests: list[str]
) -> None:
    assert [name for name, _ in made.problems()] == tests
    assert made.verdict is verdict
    failed = [case.name for case in made.junit_cases() if case.failure]
    assert failed == tests
    assert made.as_data()["schema"] == "baoha.drill/v1"


def test_text_of_drill_names_nodes_errors_and_leaders() -> None:
    text = text_of(result(GOOD, max_gap_s=1.0))
    assert "1 × 503" in text
    assert "a → b" in text
    assert text.endswith("FAIL 2.00s is longer than 1s")
