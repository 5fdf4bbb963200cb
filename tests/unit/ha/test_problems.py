"""What a node says it sees wrong: a sentence for each subject, with its code, while it holds."""

from __future__ import annotations

import trio

from baoha.diagnostics.codes.forwarding import FORWARDING_OFF
from baoha.diagnostics.codes.port import CANNOT_LISTEN, CONNECTION_REFUSED_AT_PORT
from baoha.ha.duty import REFUSAL_SHOWN_S
from baoha.ha.problems import Problems
from tests.support.node_lab import lab


async def test_problem_is_new_once_and_begins_with_its_code(autojump_clock: object) -> None:
    problems = Problems()
    assert problems.report("b", CANNOT_LISTEN, "cannot listen")
    assert not problems.report("b", CANNOT_LISTEN, "cannot listen")
    assert problems.report("b", CANNOT_LISTEN, "cannot listen at all")
    assert problems.report("a", FORWARDING_OFF, "off")
    assert problems.report("c", None, "the event loop is slow")
    assert problems.sentences() == (
        "BH-401 off",
        "BH-609 cannot listen at all",
        "the event loop is slow",
    )
    assert problems.clear("b")
    assert not problems.clear("b")


async def test_problem_that_was_reported_for_a_time_is_forgotten(autojump_clock: object) -> None:
    problems = Problems()
    problems.report("a", CONNECTION_REFUSED_AT_PORT, "refused", for_s=5)
    await trio.sleep(4)
    problems.report("a", CONNECTION_REFUSED_AT_PORT, "refused", for_s=5)
    await trio.sleep(4)
    assert problems.sentences() == ("BH-610 refused",)
    await trio.sleep(2)
    assert problems.sentences() == ()


async def test_stranger_at_the_cluster_port_is_told_for_a_minute(autojump_clock: object) -> None:
    """Goal: a node names who connects to its cluster port without belonging to the cluster."""
    async with lab() as here:
        active = await here.active("n0")
        stranger = await here.hub.network("scanner").connect("n0", 8201)
        await stranger.send_all(b"GET / HTTP/1.1\r\n\r\n")
        await trio.sleep(1)
        (problem,) = active.problems()
        assert problem.startswith("BH-610 a connection to the cluster address from ")
        assert " was refused: " in problem
        await trio.sleep(REFUSAL_SHOWN_S)
        assert active.problems() == ()
        await trio.aclose_forcefully(stranger)
