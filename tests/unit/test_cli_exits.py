"""Exit codes: each row of the table, and what a failing command may answer."""

from __future__ import annotations

import pytest
from baoha_cli.exits import NEVER_ZERO, TABLE, Profile, Verdict, exit_code
from baoha_cli.failures import ErrorKind, RequestFailed

# verdict: bao, bao status, detailed, nagios. Scripts depend on these numbers.
EXPECTED = {
    Verdict.OK: (0, 0, 0, 0),
    Verdict.NO: (1, 1, 1, 2),
    Verdict.LOCAL: (1, 1, 1, 3),
    Verdict.API: (2, 1, 1, 3),
    Verdict.SEALED: (2, 2, 2, 2),
    Verdict.DEGRADED: (1, 0, 3, 1),
    Verdict.EXPECTATION: (3, 3, 3, 2),
    Verdict.UNINITIALIZED: (2, 2, 4, 2),
    Verdict.UNREACHABLE: (2, 1, 5, 2),
    Verdict.TLS: (2, 1, 6, 2),
    Verdict.DENIED: (2, 1, 7, 3),
    Verdict.TIMEOUT: (2, 1, 8, 2),
    Verdict.IMPOSSIBLE: (1, 1, 9, 2),
    Verdict.USAGE: (64, 64, 64, 64),
    Verdict.BUG: (70, 70, 70, 70),
    Verdict.INTERRUPTED: (130, 130, 130, 130),
    Verdict.TERMINATED: (143, 143, 143, 143),
    Verdict.BROKEN_PIPE: (141, 141, 141, 141),
}


@pytest.mark.parametrize("verdict", Verdict, ids=lambda verdict: verdict.name)
def test_exit_code_of_verdict_is_the_documented_one(verdict: Verdict) -> None:
    codes = tuple(exit_code(verdict, profile) for profile in Profile)
    assert codes == EXPECTED[verdict]


def test_table_has_a_row_for_every_verdict() -> None:
    assert set(TABLE) == set(Verdict)


@pytest.mark.parametrize("verdict", Verdict, ids=lambda verdict: verdict.name)
def test_exit_zero_hides_findings_but_neither_usage_errors_nor_bugs(verdict: Verdict) -> None:
    code = exit_code(verdict, Profile.DETAILED, exit_zero=True)
    assert (code != 0) == (verdict in NEVER_ZERO)


@pytest.mark.parametrize("kind", ErrorKind)
@pytest.mark.parametrize("profile", Profile)
def test_failed_request_of_any_kind_is_never_success(kind: ErrorKind, profile: Profile) -> None:
    assert exit_code(RequestFailed(kind, "x").verdict, profile) != 0


def test_usage_error_is_never_two_because_two_means_sealed() -> None:
    assert {exit_code(Verdict.USAGE, profile) for profile in Profile} == {64}
