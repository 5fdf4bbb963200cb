"""
A load generator in a process of its own: open or closed loop, kept connections or new ones.

    python -m benchmarks.generator PLAN RESULT      started by ``benchmarks.traffic``

Rules of this file:

1. An open loop sends by the schedule. Latency counts from the moment a request was due, also when
   it had to wait for a free connection or for this process: nothing that is slow is left out.
2. No answer within the time-out, counted from the same moment, is a time-out. Nothing is retried.
3. As little work per request as Python allows: this process shares the machine with the servers.
   It reports how late it was itself, and the CPU time that it used.

Theory of operation. One thread, one ``epoll``, requests made by one formatting operation, answers
only delimited. Every write has a key of its own, ``PREFIX/<number // 1000>/<number>``, so that a
list shows which ones are there and version 2 of a key shows one that was executed twice. A request
that finds no connection free waits in the queue of its node, as in the pool of a real client.

Clients usually sit on other machines. To stand for that, the process asks for a better priority
than the servers have; where it may not, it goes on without.
"""

from __future__ import annotations

import gc
import json
import math
import os
import resource
import select
import signal
import socket
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

OK = "ok"
REFUSAL = "refusal"
UNKNOWN = "outcome unknown"
NO_CONNECTION = "no connection"
RESET = "reset"
TIMEOUT = "timeout"
TIMEOUT_UNSENT = "timeout in the client's queue"
MALFORMED = "malformed"

FOLDER_KEYS = 1_000
SEED_KEYS = 100
NICE = -10
# A client in a closed loop that was refused or cut off waits before it tries again.
PAUSE_S = 0.1
POLL_MAX_S = 0.05
RECEIVE_BYTES = 65_536
_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """
    One kind of client.

    Attributes:
        name: what its requests are called in the result.
        rate: requests a second through all nodes together; 0 is a closed loop.
        start: when the first one is due, on the system's monotonic clock.
        seconds: how long; a signal SIGTERM ends it earlier.
        connections: at most so many to each node; in a closed loop exactly so many.
        is_fresh: a new connection for every request.
        write_share: the part of the requests that are writes, the others read.
        prefix: where the writes go.
        paths: GET these in turn, instead of secrets.
    """

    name: str
    rate: float
    start: float
    seconds: float
    connections: int = 200
    is_fresh: bool = False
    write_share: float = 1.0
    prefix: str = "overload"
    timeout_s: float = 5.0
    paths: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Everything that one generator does."""

    targets: list[tuple[str, int]]
    token: str
    streams: list[Stream]
    cores: list[int] = field(default_factory=list)  # of the generator alone; empty: it shares


class _Shot:
    """One request."""

    __slots__ = ("due", "ended", "is_write", "node", "number", "outcome", "sent")

    def __init__(self, node: int, number: int, is_write: bool, due: float) -> None:
        self.node, self.number, self.is_write = node, number, is_write
        self.due, self.sent, self.ended = due, 0.0, 0.0
        self.outcome = ""


class _Lane:
    """One connection; ``shot`` is the request on its way, ``message`` what is not sent of it."""

    __slots__ = ("data", "message", "node", "shot", "sock", "stream")

    def __init__(self, stream: _Client, node: int) -> None:
        self.stream, self.node = stream, node
        self.sock = socket.socket()
        self.shot: _Shot | None = None
        self.message = self.data = b""


class _Client:
    """All that happens in one stream."""

    def __init__(self, plan: Plan, stream: Stream, loop: Loop) -> None:
        nodes = len(plan.targets)
        self.stream = stream
        self.shots: list[_Shot] = []
        self.late: list[float] = []
        self.end = stream.start + stream.seconds
        self._loop = loop
        self._targets = plan.targets
        self._heads = [_templates(plan, stream, node) for node in range(nodes)]
        self._free: list[list[_Lane]] = [[] for _ in range(nodes)]
        self._open = [0] * nodes
        self._queues: list[deque[_Shot]] = [deque() for _ in range(nodes)]
        # Of each node apart, so that each is in order.
        self._deadlines: list[deque[tuple[float, _Lane, _Shot]]] = [deque() for _ in range(nodes)]
        self._ready: deque[int] = deque()
        self._paused: deque[tuple[float, int]] = deque()
        self._number = self._writes = 0
        self._next_due = stream.start if stream.rate else math.inf
        self._in_flight = 0
        self._is_started = False

    @property
    def is_over(self) -> bool:
        """Return whether nothing more is to be sent or answered."""
        return self._in_flight == 0 and self._next_due >= self.end

    def wake_at(self) -> float:
        """Return when ``tick`` has something to do."""
        if self._ready:
            return 0.0
        wake = self._next_due if self._next_due < self.end else math.inf
        for deadlines in self._deadlines:
            if deadlines:
                wake = min(wake, deadlines[0][0])
        return min(wake, self._paused[0][0]) if self._paused else wake

    def stop(self, now: float) -> None:
        """Let nothing more become due."""
        self.end = min(self.end, now)

    def tick(self, now: float) -> None:
        """Send what is due, give up what is too old."""
        if self.stream.rate:
            interval = 1 / self.stream.rate
            while self._next_due <= now and self._next_due < self.end:
                self.late.append(now - self._next_due)
                self._begin(self._number % len(self._targets), self._next_due)
                self._next_due = self.stream.start + self._number * interval
        elif not self._is_started and now >= self.stream.start:
            self._is_started = True
            for _ in range(self.stream.connections):
                for node in range(len(self._targets)):
                    self._begin(node, now)
        while self._paused and self._paused[0][0] <= now:
            self._ready.append(self._paused.popleft()[1])
        for _ in range(len(self._ready)):
            node = self._ready.popleft()
            if now < self.end:
                self._begin(node, now)
        for node in range(len(self._targets)):
            self._give_up(node, now)
            self._take_from_queue(node)

    def _give_up(self, node: int, now: float) -> None:
        deadlines = self._deadlines[node]
        while deadlines and deadlines[0][0] <= now:
            _, lane, shot = deadlines.popleft()
            if lane.shot is shot:
                self.finish(lane, TIMEOUT, now, keep=False)
        oldest = now - self.stream.timeout_s
        queue = self._queues[node]
        while queue and queue[0].due <= oldest:
            self._record(queue.popleft(), TIMEOUT_UNSENT, now)

    def _take_from_queue(self, node: int) -> None:
        queue, free = self._queues[node], self._free[node]
        while queue:
            if free:
                self._send(free.pop(), queue.popleft())
            elif self._open[node] < self.stream.connections:
                self._connect(node, queue.popleft())
            else:
                return

    def _begin(self, node: int, due: float) -> None:
        number = self._number
        self._number += 1
        share = self.stream.write_share
        is_write = int((number + 1) * share) > int(number * share)
        if is_write:
            number = self._writes
            self._writes += 1
        shot = _Shot(node, number, is_write, due)
        self._in_flight += 1
        # Behind those that wait already: nothing overtakes.
        self._queues[node].append(shot)
        self._take_from_queue(node)

    def _connect(self, node: int, shot: _Shot) -> None:
        lane = _Lane(self, node)
        self._open[node] += 1
        lane.sock.setblocking(False)
        lane.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._loop.add(lane)
        try:
            lane.sock.connect(self._targets[node])
        except BlockingIOError:
            pass  # on loopback it is through by now, unless the server's queue is full
        except ConnectionError:
            lane.shot = shot
            self.finish(lane, NO_CONNECTION, time.monotonic(), keep=False)
            return
        self._send(lane, shot)

    def _send(self, lane: _Lane, shot: _Shot) -> None:
        lane.shot = shot
        lane.message = self._message(shot)
        shot.sent = time.monotonic()
        self._deadlines[lane.node].append((shot.due + self.stream.timeout_s, lane, shot))
        self.flush(lane)

    def flush(self, lane: _Lane) -> None:
        """Send what can be sent; the rest waits for the socket."""
        try:
            count = lane.sock.send(lane.message)
        except BlockingIOError:
            count = 0
        except ConnectionRefusedError:
            self.finish(lane, NO_CONNECTION, time.monotonic(), keep=False)
            return
        except OSError:
            self.finish(lane, RESET, time.monotonic(), keep=False)
            return
        is_waiting = count < len(lane.message)
        lane.message = lane.message[count:] if is_waiting else b""
        if is_waiting:
            self._loop.want_write(lane)

    def receive(self, lane: _Lane) -> None:
        """Take what has come; it may complete the answer."""
        try:
            part = lane.sock.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except ConnectionRefusedError:
            self.finish(lane, NO_CONNECTION, time.monotonic(), keep=False)
            return
        except OSError:
            part = b""
        if lane.shot is None:
            self._drop_idle(lane)  # the server closed it, which is its right
            return
        if not part:
            self.finish(lane, RESET, time.monotonic(), keep=False)
            return
        data = lane.data + part if lane.data else part
        found = parse_answer(data)
        if found is None:
            lane.data = data
            return
        outcome, keep = found
        if outcome == "status 429" and self.stream.paths:
            outcome = OK  # what a standby's health says
        lane.data = b""
        self.finish(lane, outcome, time.monotonic(), keep=keep and not self.stream.is_fresh)

    def finish(self, lane: _Lane, outcome: str, now: float, *, keep: bool) -> None:
        """Note how a request ended; the next one may have its connection."""
        shot, lane.shot = lane.shot, None
        node = lane.node
        if keep:
            self._free[node].append(lane)
        else:
            self._open[node] -= 1
            self._loop.remove(lane)
        if shot is not None:
            self._record(shot, outcome, now)
        # A place that a failure has left is taken by ``tick``: a chain of failures is no recursion.
        if keep and self._queues[node]:
            self._take_from_queue(node)

    def _record(self, shot: _Shot, outcome: str, now: float) -> None:
        # Whoever has given up does not see what comes then.
        is_late = now >= shot.due + self.stream.timeout_s and outcome != TIMEOUT_UNSENT
        shot.outcome = TIMEOUT if is_late else outcome
        shot.ended = now
        self.shots.append(shot)
        self._in_flight -= 1
        if not self.stream.rate and now < self.end:
            if outcome == OK:
                self._ready.append(shot.node)
            else:
                self._paused.append((now + PAUSE_S, shot.node))

    def _drop_idle(self, lane: _Lane) -> None:
        self._free[lane.node].remove(lane)
        self._open[lane.node] -= 1
        self._loop.remove(lane)

    def _message(self, shot: _Shot) -> bytes:
        write, others = self._heads[shot.node]
        if shot.is_write:
            number = shot.number
            return write % (number // FOLDER_KEYS, number, number)
        return others[shot.number // len(self._targets) % len(others)]


class Loop:
    """The ``epoll`` of all streams; it runs once."""

    def __init__(self, plan: Plan) -> None:
        self._poll = select.epoll()
        self._lanes: dict[int, _Lane] = {}
        self.clients = [_Client(plan, stream, self) for stream in plan.streams]
        self.is_stopped = False

    def run(self) -> None:
        """Return when all streams are over; all connections are closed then."""
        try:
            self._run()
        finally:
            for lane in self._lanes.values():
                lane.sock.close()
            self._lanes.clear()
            self._poll.close()

    def _run(self) -> None:
        clients = self.clients
        while True:
            now = time.monotonic()
            wake = now + POLL_MAX_S
            is_over = True
            for client in clients:
                if self.is_stopped:
                    client.stop(now)
                client.tick(now)
                wake = min(wake, client.wake_at())
                is_over = is_over and client.is_over and now >= client.end
            if is_over:
                return
            for fileno, event in self._poll.poll(max(0.0, wake - time.monotonic())):
                lane = self._lanes.get(fileno)
                if lane is None:
                    continue
                if event & ~select.EPOLLOUT:
                    lane.stream.receive(lane)
                elif lane.message:
                    self._poll.modify(fileno, select.EPOLLIN)
                    lane.stream.flush(lane)

    def stop(self, *_: object) -> None:
        """End soon; fit for a signal handler."""
        self.is_stopped = True

    def add(self, lane: _Lane) -> None:
        """Watch a connection."""
        fileno = lane.sock.fileno()
        self._lanes[fileno] = lane
        self._poll.register(fileno, select.EPOLLIN)

    def want_write(self, lane: _Lane) -> None:
        """Watch for room to send, too."""
        self._poll.modify(lane.sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def remove(self, lane: _Lane) -> None:
        """Close a connection."""
        del self._lanes[lane.sock.fileno()]
        lane.sock.close()


def parse_answer(data: bytes) -> tuple[str, bool] | None:
    """Return the outcome of an answer and whether the connection can be kept; None: incomplete."""
    end = data.find(_HEAD_END)
    if end < 0:
        return None
    if not data.startswith(b"HTTP/1.1 "):
        return MALFORMED, False
    status = data[9:12]
    head = data[:end].lower()
    place = head.find(b"\r\ncontent-length:")
    if status in (b"204", b"304"):
        size = end + 4
    elif place >= 0:
        size = end + 4 + int(head[place + 17 :].partition(b"\r\n")[0])
    elif b"\r\ntransfer-encoding: chunked" in head:
        if not data.endswith(b"0\r\n\r\n"):
            return None
        size = len(data)
    else:
        return MALFORMED, False
    if len(data) < size:
        return None
    if len(data) > size:
        return MALFORMED, False
    keep = b"\r\nconnection: close" not in head
    if status[:1] == b"2":
        return OK, keep
    if status == b"503" and b"\r\nretry-after:" in head:
        # Only a refusal says that nothing was executed.
        return (UNKNOWN if b"outcome is unknown" in data else REFUSAL), keep
    return f"status {status.decode('latin-1')}", keep


def _templates(plan: Plan, stream: Stream, node: int) -> tuple[bytes, list[bytes]]:
    """Return the write to be filled in with (folder, key, value), and the reads."""
    host, port = plan.targets[node]
    close = "Connection: close\r\n" if stream.is_fresh else ""
    head = f"HTTP/1.1\r\nHost: {host}:{port}\r\nX-Vault-Token: {plan.token}\r\n{close}"
    body = '{"data":{"value":"%010d","fill":"' + "x" * 100 + '"}}'
    length = len(body % 0)
    write = (
        f"PUT /v1/secret/data/{stream.prefix}/%d/%d {head}Content-Length: {length}\r\n\r\n{body}"
    )
    paths = stream.paths or [f"/v1/secret/data/seed/{key}" for key in range(SEED_KEYS)]
    return write.encode(), [f"GET {path} {head}\r\n".encode() for path in paths]


def report(loop: Loop, seconds: float) -> dict[str, object]:
    """Return the result: a row for each request, outcomes by their place in a list."""
    outcomes: dict[str, int] = {}
    streams = {}
    for client in loop.clients:
        late = sorted(client.late) or [0.0]
        streams[client.stream.name] = {
            "late_p99_s": late[int(0.99 * (len(late) - 1))],
            "late_max_s": late[-1],
            "rows": [_row(shot, outcomes) for shot in client.shots],
        }
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "cpu_share": (used.ru_utime + used.ru_stime) / seconds,
        "nice": os.nice(0),
        "outcomes": list(outcomes),
        "streams": streams,
    }


def _row(shot: _Shot, outcomes: dict[str, int]) -> list[object]:
    moments = [round(moment, 5) for moment in (shot.due, shot.sent, shot.ended)]
    outcome = outcomes.setdefault(shot.outcome, len(outcomes))
    return [shot.node, shot.number, int(shot.is_write), *moments, outcome]


def _prefer(cores: list[int]) -> None:
    """Ask for more CPU time than the servers get, and for all the descriptors there are."""
    if cores:
        os.sched_setaffinity(0, cores)
    with suppress(OSError):
        os.nice(NICE)
        # Sessions are scheduled as groups where this file exists.
        Path("/proc/self/autogroup").write_text(str(NICE))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main(plan_file: str, result_file: str) -> None:
    """Do what the plan says, and write what came of it."""
    content = json.loads(Path(plan_file).read_text())
    plan = Plan(
        targets=[(host, port) for host, port in content["targets"]],
        token=content["token"],
        streams=[Stream(**stream) for stream in content["streams"]],
        cores=content["cores"],
    )
    _prefer(plan.cores)
    loop = Loop(plan)
    signal.signal(signal.SIGTERM, loop.stop)
    gc.freeze()
    gc.disable()
    begin = time.monotonic()
    loop.run()
    result = report(loop, time.monotonic() - begin)
    temporary = Path(f"{result_file}.part")
    temporary.write_text(json.dumps(result))
    temporary.rename(result_file)


if __name__ == "__main__":
    main(*sys.argv[1:])
