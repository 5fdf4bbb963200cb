"""
Seeds: what no interleaving and no fault may break.

``pytest tests/simulation --seeds 5000`` runs more of them, ``--seed 4711`` one, ``--first-seed N``
begins elsewhere. A seed that has once failed stays in ``seeds_regression.txt``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.scenario import play_seed

REGRESSIONS = Path(__file__).with_name("seeds_regression.txt")


def regression_seeds() -> list[int]:
    """Return the seeds that have failed once."""
    lines = REGRESSIONS.read_text().splitlines()
    return [int(line.split()[0]) for line in lines if line.strip() and not line.startswith("#")]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" not in metafunc.fixturenames:
        return
    single = metafunc.config.getoption("--seed")
    if single is not None:
        seeds = [single]
    else:
        first = metafunc.config.getoption("--first-seed")
        count = metafunc.config.getoption("--seeds")
        seeds = [*regression_seeds(), *range(first, first + count)]
    metafunc.parametrize("seed", sorted(set(seeds)))


@pytest.mark.simulation
def test_cluster_any_seed_keeps_the_invariants_and_recovers(
    seed: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    Goal: no schedule of crashes, pauses, partitions and bad stores breaks an invariant.

    Method: a seeded cluster under a virtual clock with clients; see ``tests/support/scenario.py``.
    """
    try:
        play_seed(seed)
    except BaseException:
        with capsys.disabled():
            print(f"\nreplay: pytest tests/simulation --seed {seed}")
        raise
