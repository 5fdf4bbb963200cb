"""The overload measurement: what its generator counts as what, and the figures that follow."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import trio

from benchmarks.generator import (
    MALFORMED,
    NO_CONNECTION,
    OK,
    REFUSAL,
    RESET,
    TIMEOUT,
    TIMEOUT_UNSENT,
    UNKNOWN,
    Loop,
    Plan,
    Stream,
    parse_answer,
    report,
)
from benchmarks.overload_runs import StepDown, failed_around
from benchmarks.reports import Report, as_json, as_text, counts, merge
from benchmarks.shots import (
    Shot,
    by_second,
    due_between,
    is_normal,
    normal_after_s,
    normal_limit_s,
    percentile,
    spread,
    summarize,
    writes_again_s,
)
from testbed.ports import free_ports

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\n{}"
Handler = Callable[[trio.SocketStream], Awaitable[None]]


def shot(
    due: float,
    latency: float = 0.01,
    outcome: str = OK,
    *,
    node: int = 0,
    is_write: bool = True,
) -> Shot:
    return Shot(node, 0, is_write, due, due, due + latency, outcome)


# --- answers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (GOOD, (OK, True)),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (OK, True)),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", (OK, False)),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", (OK, True)),
        (BUSY, (REFUSAL, True)),
        (
            b"HTTP/1.1 503 x\r\nRetry-After: 1\r\nContent-Length: 22\r\n\r\nthe outcome is unknown",
            (UNKNOWN, True),
        ),
        (b"HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n", ("status 503", True)),
        (b"HTTP/1.1 429 x\r\nContent-Length: 0\r\n\r\n", ("status 429", True)),
        (b"SSH-2.0-OpenSSH\r\n\r\n", (MALFORMED, False)),
        (b"HTTP/1.1 200 OK\r\n\r\n", (MALFORMED, False)),
        (GOOD + GOOD, (MALFORMED, False)),
    ],
)
def test_answer_that_is_complete_has_an_outcome(answer: bytes, found: tuple[str, bool]) -> None:
    assert parse_answer(answer) == found


@pytest.mark.parametrize("size", range(len(GOOD)))
def test_answer_that_is_cut_off_is_incomplete(size: int) -> None:
    assert parse_answer(GOOD[:size]) is None


# --- the generator against real sockets -----------------------------------------------------------


@asynccontextmanager
async def serving(handle: Handler) -> AsyncIterator[int]:
    async with trio.open_nursery() as nursery:
        port = free_ports(1)[0]
        await nursery.start(partial(trio.serve_tcp, handle, port, host="127.0.0.1"))
        yield port
        nursery.cancel_scope.cancel()


async def fire(port: int, **settings: object) -> list[tuple[str, int]]:
    """Return (outcome, number) of every request of a stream of 100/s for 0.3 s."""
    return [(row[-1], row[1]) for row in await shoot(port, **settings)]


async def shoot(port: int, **settings: object) -> list[list[Any]]:
    """Return the rows of the result: node, number, is write, due, sent, ended, outcome."""
    common = {"name": "s", "rate": 100.0, "seconds": 0.3, "timeout_s": 0.2, "connections": 100}
    stream = Stream(start=time.monotonic(), **{**common, **settings})  # type: ignore[arg-type]
    loop = Loop(Plan(targets=[("127.0.0.1", port)], token="t", streams=[stream]))
    await trio.to_thread.run_sync(loop.run)
    result: dict[str, Any] = report(loop, 1.0)
    rows = result["streams"]["s"]["rows"]
    return [[*row[:-1], result["outcomes"][row[-1]]] for row in rows]


def answering(answer: bytes, connections: list[int], requests: list[bytes]) -> Handler:
    async def handle(stream: trio.SocketStream) -> None:
        connections.append(1)
        async with stream:
            async for part in stream:
                requests.append(bytes(part))
                await stream.send_all(answer)

    return handle


async def slow(stream: trio.SocketStream) -> None:
    async with stream:
        await stream.receive_some()
        await trio.sleep(0.03)
        await stream.send_all(GOOD)


async def silent(stream: trio.SocketStream) -> None:
    async with stream:
        async for _ in stream:
            pass


async def hang_up(stream: trio.SocketStream) -> None:
    async with stream:
        await stream.receive_some()


async def test_generator_writes_every_number_once_over_kept_connections() -> None:
    connections: list[int] = []
    requests: list[bytes] = []
    async with serving(answering(GOOD, connections, requests)) as port:
        fired = await fire(port, timeout_s=5.0, connections=3)
    assert sorted(fired) == [(OK, number) for number in range(30)]
    assert len(connections) <= 3
    assert len(requests) == 30
    assert {part.split(b" ")[1] for part in requests} == {
        b"/v1/secret/data/overload/0/%d" % number for number in range(30)
    }


async def test_generator_with_new_connections_uses_each_once() -> None:
    connections: list[int] = []
    async with serving(answering(GOOD, connections, [])) as port:
        assert len(await fire(port, timeout_s=5.0, is_fresh=True)) == len(connections) == 30


async def test_generator_with_a_share_of_writes_reads_the_others() -> None:
    requests: list[bytes] = []
    async with serving(answering(GOOD, [], requests)) as port:
        await fire(port, timeout_s=5.0, write_share=0.5)
    assert Counter(part[:3] for part in requests) == {b"PUT": 15, b"GET": 15}


async def test_generator_whose_server_is_silent_sends_by_the_schedule_all_the_same() -> None:
    async with serving(silent) as port:
        fired = await fire(port)
    assert Counter(outcome for outcome, _ in fired) == {TIMEOUT: 30}


async def test_generator_without_a_free_connection_counts_what_it_never_sent() -> None:
    async with serving(silent) as port:
        fired = await fire(port, connections=1, rate=10_000.0, seconds=0.1)
    found = Counter(outcome for outcome, _ in fired)
    assert set(found) == {TIMEOUT, TIMEOUT_UNSENT}
    assert found.total() == 1_000


async def test_generator_with_few_connections_lets_nothing_overtake() -> None:
    async with serving(slow) as port:
        rows = await shoot(port, connections=2, is_fresh=True, rate=1_000.0)
    sent = sorted((row[4], row[1]) for row in rows if row[4] > 0)
    assert len(rows) == 300
    assert [number for _, number in sent] == sorted(number for _, number in sent)


async def test_generator_counts_an_answer_after_the_time_out_as_none() -> None:
    async with serving(slow) as port:
        fired = await fire(port, timeout_s=0.02, is_fresh=True)
    assert {outcome for outcome, _ in fired} == {TIMEOUT}


@pytest.mark.parametrize("connections", [1, 100])
async def test_generator_without_a_server_has_no_connection(connections: int) -> None:
    more = {"connections": connections, "rate": 20_000.0, "seconds": 0.1}
    fired = await fire(free_ports(1)[0], timeout_s=5.0, **more)
    assert Counter(outcome for outcome, _ in fired) == {NO_CONNECTION: 2_000}


async def test_generator_whose_server_hangs_up_is_reset() -> None:
    async with serving(hang_up) as port:
        assert {outcome for outcome, _ in await fire(port, timeout_s=5.0)} == {RESET}


async def test_generator_in_a_closed_loop_keeps_its_connections_busy() -> None:
    connections: list[int] = []
    async with serving(answering(GOOD, connections, [])) as port:
        fired = await fire(port, rate=0.0, connections=3, timeout_s=5.0)
    assert len(connections) == 3
    assert len(fired) > 3
    assert {outcome for outcome, _ in fired} == {OK}


async def test_generator_in_a_closed_loop_that_is_refused_pauses() -> None:
    async with serving(answering(BUSY, [], [])) as port:
        fired = await fire(port, rate=0.0, connections=3, timeout_s=5.0)
    # 0.1 s each in 0.3 s.
    assert {outcome for outcome, _ in fired} == {REFUSAL}
    assert len(fired) <= 3 * 4


# --- figures --------------------------------------------------------------------------------------


def test_summary_tells_prompt_late_refused_and_failed_apart() -> None:
    shots = [
        shot(0, 0.5),
        shot(0, 2.0),
        shot(1, 0.1, REFUSAL),
        shot(1, 5.0, TIMEOUT),
        shot(1, 5.0, TIMEOUT_UNSENT),
        shot(1, 0.1, UNKNOWN),
        shot(1, 0.1, "status 500"),
        shot(1, 0.1, RESET),
    ]
    found = summarize(shots, 2.0)
    assert (found.offered_per_s, found.prompt_per_s, found.good_per_s) == (4.0, 0.5, 1.0)
    assert (found.refusals_per_s, found.timeouts) == (0.5, 2)
    assert found.errors == {UNKNOWN: 1, "status 500": 1, RESET: 1}
    assert found.good.max_ms == 2000.0
    assert found.refused.p99_ms == pytest.approx(100)


def test_latency_counts_from_the_moment_a_request_was_due() -> None:
    assert Shot(0, 0, True, due=1.0, sent=3.0, ended=3.5, outcome=OK).latency_s == 2.5


@pytest.mark.parametrize(
    ("fraction", "value"), [(0.0, 1), (0.01, 1), (0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100)]
)
def test_percentile_is_the_smallest_that_so_many_do_not_exceed(fraction: float, value: int) -> None:
    assert percentile(range(1, 101), fraction) == value


def test_spread_of_nothing_is_nothing() -> None:
    assert spread([]).p99_ms is None


def test_second_of_a_request_is_the_one_in_which_it_was_due() -> None:
    shots = [shot(9.9), shot(10.0, 2.0), shot(10.9, 4.0), shot(11.0, 0.1, "status 500"), shot(12.0)]
    first, second = by_second(shots, 10.0, 2)
    assert (first.due, first.within_1_s, first.within_3_s) == (2, 0, 1)
    assert (second.due, second.within_1_s, second.errors) == (1, 0, 1)


def test_window_holds_its_start_and_not_its_end() -> None:
    assert [s.due for s in due_between([shot(1), shot(2), shot(3)], 1, 3)] == [1, 2]


def test_limit_of_a_fast_cluster_is_not_below_what_a_busy_machine_adds() -> None:
    assert normal_limit_s([shot(0, 0.001)]) == 0.02
    assert normal_limit_s([shot(0, 0.1)]) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("shots", "answer"),
    [
        ([], False),
        ([shot(0, 0.01)], True),
        ([shot(0, 0.01), shot(0, 0.03)], False),
        ([shot(0, 0.01), shot(0, 0.001, REFUSAL)], False),
    ],
)
def test_normal_is_good_and_fast(shots: list[Shot], answer: bool) -> None:
    assert is_normal(shots, 0.02) is answer


def steady(slow_until: float, seconds: float = 5.0) -> list[Shot]:
    count = int(seconds * 10)
    return [shot(n / 10, 0.5 if n / 10 < slow_until else 0.01) for n in range(count)]


@pytest.mark.parametrize("slow_until", [0.0, 0.5, 2.0])
def test_time_until_normal_is_that_of_the_first_second_without_trouble(slow_until: float) -> None:
    assert normal_after_s(steady(slow_until), 0.0, 0.02) == pytest.approx(slow_until)


def test_time_until_normal_of_what_never_is_is_none() -> None:
    assert normal_after_s(steady(4.5), 0.0, 0.02) is None
    assert normal_after_s([], 0.0, 0.02) is None


def test_first_write_through_a_node_is_one_that_was_due_after_the_event() -> None:
    shots = [
        shot(0.9, 1.0),
        shot(1.0, 0.5, "status 500"),
        shot(1.0, 0.1, is_write=False),
        shot(1.2, 0.2, node=1),
        shot(1.5, 2.0),
        shot(2.0, 0.5),
    ]
    assert writes_again_s(shots, 0, 1.0) == pytest.approx(1.5)
    assert writes_again_s(shots, 2, 1.0) is None


def test_failure_around_a_step_down_was_on_its_way_and_is_no_refusal() -> None:
    shots = [
        shot(2.0, 0.1, "status 500"),  # long before
        shot(9.5, 1.0, UNKNOWN),
        shot(10.0, 0.1, REFUSAL),
        shot(10.0, 5.0, TIMEOUT),
        shot(11.0, 0.1, RESET),
        shot(20.0, 0.1, RESET),  # long after
    ]
    step = StepDown(moment=10.0, took_s=1.0, status=204)
    assert failed_around(shots, step) == {UNKNOWN: 1, RESET: 1}


# --- reports --------------------------------------------------------------------------------------


def test_reports_of_two_systems_become_one_table() -> None:
    first = Report(title="t", heads=("a",), rows=[[1]], notes=["n"])
    other = Report(title="u", heads=("a",), rows=[[3]])
    second = Report(title="t", heads=("a",), rows=[[2]], is_failure=True)
    merged = merge([first, other, second])
    assert [report.title for report in merged] == ["t", "u"]
    assert merged[0].rows == [[1], [2]]
    assert merged[0].is_failure
    assert as_json(merged[0]) == {"title": "t", "rows": [{"a": 1}, {"a": 2}], "notes": ["n"]}
    assert as_text(merged[0]).splitlines() == ["== t", "a", "-", "1", "2", "n"]


def test_counts_name_every_kind() -> None:
    assert counts({}) == "0"
    assert counts({"b": 1, "a": 2}) == "3 (a 2, b 1)"
