"""
A connected standby, on the active node: its requests, its heartbeats, its notices.

Rules of this file: every request that was begun is answered or reported as of unknown outcome, and
nothing here waits in the reader's task.

Source: ours; docs/decisions/005-park-and-never-repeat-writes.md.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import trio

from baoha.cluster.active_requests import ActiveRequests
from baoha.cluster.channel import Execute, LeaderNotice, NodeInfo, PrepareReply, Standbys
from baoha.cluster.transport import Transport
from baoha.errors import ForwardingError
from baoha.sansio.patience import PeerPatience
from baoha.sansio.wire.frames import (
    ChannelLimits,
    Frame,
    FrameError,
    FrameKind,
    pack,
    parse_credit,
    unpack,
)

_logger: Final = logging.getLogger("baoha.cluster")


class ActiveSession:
    """
    One standby, from hello to end. It is the ``channel.Peer`` that ``ha`` sees.

    Attributes:
        patience: how late its heartbeats come, the delays of this process included.
        accepting: set once requests can be run (or never will be).
        is_stuck: the outcome of a request could not be told; a GOODBYE would be a lie about it.
    """

    def __init__(
        self,
        transport: Transport,
        info: NodeInfo,
        execute: Execute,
        standbys: Standbys,
        limits: ChannelLimits,
        wall_clock: Callable[[], float],
        *,
        heartbeat_s: float,
    ) -> None:
        self._heartbeats = _Heartbeats(heartbeat_s, wall_clock)
        self.patience: Final = self._heartbeats.patience
        self._outbox = transport.outbox
        self._info = info
        self._standbys = standbys
        self._requests = ActiveRequests(transport, execute, limits, stuck=self._give_up)
        self._prepares = _Prepares()
        self._ended = trio.Event()
        self.accepting: Final = trio.Event()
        self.is_stuck = False

    @property
    def info(self) -> NodeInfo:
        """What it last said of itself."""
        return self._info

    @property
    def echoed_s_ago(self) -> float:
        """Seconds since its last heartbeat."""
        return self._heartbeats.s_ago

    @property
    def echoed_at_unix_s(self) -> float:
        """Wall-clock time of its last heartbeat, for display only."""
        return self._heartbeats.at_unix_s

    async def prepare(self) -> PrepareReply:
        """
        Ask it to prepare for taking over.

        Raises:
            ForwardingError: the channel has ended. The caller sets the time limit.
        """
        with self._prepares.ask() as question:
            self._outbox.control(FrameKind.PREPARE, question.id)
            return await question.answer()

    def notify(self, notice: LeaderNotice) -> None:
        """Queue a notice; a broken channel, or one that is stuck, drops it."""
        try:
            self._outbox.control(FrameKind.NOTICE, 0, pack(notice))
        except FrameError as exc:
            _logger.warning("leader notice dropped node=%s cause=%s", self._info.node_id, exc)

    async def run_requests(self) -> None:
        """
        Run the peer's requests until the connection ends or this is cancelled.

        Cancellation: running requests are cancelled and their outcome is reported as unknown.
        """
        async with trio.open_nursery() as nursery:
            self._requests.open(nursery)
            self._standbys.joined(self)
            self.accepting.set()
            try:
                await self._ended.wait()
            finally:
                self._requests.close()
                self._standbys.left(self)
                nursery.cancel_scope.cancel()

    def finish(self, reason: str) -> None:
        """Send what is queued, then a GOODBYE. No request may be running any more."""
        self.end()
        self._outbox.finish(reason.encode(errors="replace"))
        self.accepting.set()

    def end(self) -> None:
        """Stop: the connection is gone or must go. Running requests are cancelled."""
        self._requests.close()
        self._prepares.end()
        self._ended.set()

    def _give_up(self) -> None:
        self.is_stuck = True
        self.end()

    def handle(self, frames: Sequence[Frame]) -> None:
        """
        Take frames from the peer. Never waits.

        Raises:
            FrameError: the peer broke the protocol; the connection must end.
        """
        for frame in frames:
            if frame.kind == FrameKind.CREDIT:
                # Also after the end: answers that are ready still leave.
                self._outbox.credit(frame.id, parse_credit(frame.payload))
            elif self._ended.is_set():
                continue
            elif frame.kind == FrameKind.HEARTBEAT:
                self._info = unpack(frame.payload, NodeInfo)
                self._heartbeats.take()
                self._outbox.control(FrameKind.ECHO)
            elif frame.kind == FrameKind.PREPARED:
                self._prepares.reply(frame.id, unpack(frame.payload, PrepareReply))
            else:
                # Kinds that nobody knows are ignored: a newer standby may send them.
                self._requests.handle(frame)


class _Heartbeats:
    """
    When the heartbeats of a standby came, and how late; its hello counts as the first.

    Args:
        interval_s: how often they are sent.
        wall_clock: seconds of Unix time, for display only.

    Attributes:
        patience: learns from each how late they come.
        at_unix_s: when the last one came.
    """

    def __init__(self, interval_s: float, wall_clock: Callable[[], float]) -> None:
        self.patience: Final = PeerPatience()
        self.at_unix_s = wall_clock()
        self._interval_s = interval_s
        self._wall_clock = wall_clock
        self._came_at = trio.current_time()

    @property
    def s_ago(self) -> float:
        """Seconds since the last one."""
        return trio.current_time() - self._came_at

    def take(self) -> None:
        """Take note of one that has come now."""
        self.patience.observe(self.s_ago - self._interval_s)
        self._came_at = trio.current_time()
        self.at_unix_s = self._wall_clock()


class _Question:
    """One "prepare to take over" and its answer."""

    def __init__(self, question_id: int) -> None:
        self.id = question_id
        self.reply: PrepareReply | None = None
        self.settled = trio.Event()

    async def answer(self) -> PrepareReply:
        await self.settled.wait()
        if self.reply is None:
            raise ForwardingError("the channel to the standby has ended")
        return self.reply


class _Prepares:
    """The questions that wait for an answer."""

    def __init__(self) -> None:
        self._questions: dict[int, _Question] = {}
        self._next_id = 1
        self._ended = False

    @contextmanager
    def ask(self) -> Iterator[_Question]:
        """Note a question for the time of the block."""
        question = _Question(self._next_id)
        self._next_id += 1
        self._questions[question.id] = question
        if self._ended:
            question.settled.set()
        try:
            yield question
        finally:
            del self._questions[question.id]

    def reply(self, question_id: int, reply: PrepareReply) -> None:
        """Settle a question; an answer that nobody waits for any more is dropped."""
        question = self._questions.get(question_id)
        if question is not None and question.reply is None:
            question.reply = reply
            question.settled.set()

    def end(self) -> None:
        """Settle all questions: there will be no answer."""
        self._ended = True
        for question in self._questions.values():
            question.settled.set()
