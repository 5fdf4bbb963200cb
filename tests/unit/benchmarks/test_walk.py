"""
How much code a write goes through, direct and forwarded: it may become less.

Method: the real measurement with few repetitions; the bounds are what it was when they were set,
with room for a heartbeat. Who makes a write shorter sets them anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmarks.walk import Step, Tracer, Walk, listing, measure, report

CALLS_MAX = {"direct": 290, "forwarded": 380}
SWITCHES_MAX = {"direct": 168, "forwarded": 220}


async def test_write_direct_and_forwarded_takes_no_more_calls_than_it_did(tmp_path: Path) -> None:
    walks = await measure(tmp_path, repeat=6)
    assert list(walks) == ["direct", "forwarded"]
    for name, walk in walks.items():
        text = report(walks)
        assert walk.calls <= CALLS_MAX[name], text
        assert walk.switches <= SWITCHES_MAX[name], text
        files = {step.file for step in walk.steps}
        assert files >= {"server/http/connection.py", "api/app.py", "storage/sqlite/writer.py"}
    assert "cluster/standby_calls.py" in {step.file for step in walks["forwarded"].steps}


def test_walk_counts_stays_in_one_file_as_one() -> None:
    walk = Walk((Step("api/a.py", "f"), Step("api/a.py", "g"), Step("ha/b.py", "h")), resumed=0)
    assert (walk.calls, walk.switches) == (3, 1)
    assert walk.by_folder() == {"api": 2, "ha": 1}
    assert listing(walk) == "api/a.py: f g\nha/b.py: h"


def test_tracer_coroutine_that_waits_is_called_once() -> None:
    with Tracer(Path(__file__).parent) as tracer, tracer.tracing():
        assert list(_two()) == [1, 2]
    assert [step.function for step in tracer.walk.steps] == ["_two"]
    assert tracer.walk.resumed == 2


def _two() -> Iterator[int]:
    yield 1
    yield 2
