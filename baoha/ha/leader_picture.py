"""
Who leads, as a value: what a standby knows of the HA lock and its holder, and what to do next.

Rules of this file:

1. "No leader yet" is never remembered: until the leader's advertisement says how to reach it, it is
   read anew, at first within milliseconds.
2. The lock is tried for at once when it is free, passed to this node, expired, or when its holder
   is proven dead. (A node that has stepped down leaves a free lock to the others for a moment.)
3. A leader counts as alive but unreachable only when it renewed the lock *after* the channel
   broke; until then requests are parked, never redirected.

And of the code: it knows no clock, no store and no task. What was seen, and when, it is told; what
follows is an answer. Tasks, and everything that takes time, are in ``standby.py``.

Theory of operation. The lock's record is read again and again. Each reading opens a short agenda,
which ``next_step`` hands out one by one: read the leader's advertisement, prove that the holder is
dead, try for the lock; then wait. No step is handed out twice for one reading, whatever became of
it, so whoever obeys cannot spin. Everything known of a leader goes at once when the record shows
another tenure.

All times are seconds of one monotonic clock, whose reading is the argument ``now``.
``tests/unit/ha/leader/*.txt`` tells the rules as scenarios.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from baoha.cluster.channel import LeaderNotice
from baoha.core.view import Leader, LinkState
from baoha.sansio.advertisement import Advertisement
from baoha.storage.base import LockRecord

HEAD_START_S = 1.0  # a node that stepped down leaves a free lock to others for so long
LAPSED_START_S = 0.3  # and so long, if it is free because its successor let it lapse
FIRST_LOOK_S = 0.002  # re-read for an advertisement that is not there yet; grows with each look
LOOK_GROWTH = 1.3  # a take-over lasts some milliseconds, and every one of them is a client's
LAST_LOOK_S = 0.1
EVIDENCE_FIRST_S = 0.02  # re-check of a holder whose channel broke; grows with the time since
RENEWED_S = 0.05  # an expiry has to move by more than this to show a renewal
SHORTEST_WAIT_S = 0.001


@dataclass(frozen=True, slots=True)
class TryLock:
    """Try for the lock. ``evict``: from this holder, who is proven dead; None: it may be had."""

    evict: LockRecord | None = None


@dataclass(frozen=True, slots=True)
class CheckDeath:
    """
    Find out whether the holder's process has ended.

    Attributes:
        address: where it would listen; None when it has not advertised anything in this tenure, so
            that it has never opened a port.
    """

    record: LockRecord
    address: str | None


@dataclass(frozen=True, slots=True)
class ReadAdvertisement:
    """Read what the tenure with this leader UUID has advertised."""

    uuid: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Read the record again when something is announced, and after so long at the latest."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """
    What the node shows to its clients.

    Attributes:
        changing: requests are parked: there is no leader, it leaves, or it is dead.
        unreachable: the cluster address of a leader that is alive and cannot be reached; "" else.
    """

    leader: Leader | None
    link: LinkState
    changing: bool
    unreachable: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """
    What has to be known of the node that looks on.

    Attributes:
        identity: what it contends for the lock with.
        is_clustered: it has a cluster address, so it may forward to a leader that has one.
        store_announces: the store announces changes of the lock.
        poll_s: so often the record is read where nothing is announced.
    """

    identity: str
    is_clustered: bool
    store_announces: bool
    poll_s: float


class LeaderPicture:
    """
    What a standby knows of who leads.

    Attributes:
        followed: the advertisement whose channel is wanted; None: no channel.
        linger_s: how long the channel before it is still worth something; None: as usual.
        has_followed: whether there was ever a channel that was up.
    """

    def __init__(self, own: Own) -> None:
        self._own = own
        self._known = _Known()
        self._free = _FreeLock()
        self._agenda = _Agenda()
        self._link = LinkState.NONE
        self._link_down_since: float | None = None
        self._is_leaving = False  # the active node has announced that it leaves
        self.followed: Advertisement | None = None
        self.linger_s: float | None = None
        self.has_followed = False

    # --- what is told ----------------------------------------------------------------------------

    def began(self, *, now: float, hold_off_s: float, rest_s: float) -> None:
        """
        Begin to stand by, knowing nothing.

        Args:
            hold_off_s: for so long others get a head start on a free lock (after a step-down).
            rest_s: for so long a free lock is not tried for at all (after a failed take-up).
        """
        # When the lock became free may be known from before a tenure of our own: not any more.
        self._free = _FreeLock(hold_until=now + hold_off_s, rest_until=now + rest_s)
        self._forget()

    def became_active(self) -> None:
        """Forget the leader as known so far: this node leads itself."""
        self._is_leaving = False
        self._forget()

    def saw_record(self, record: LockRecord | None, *, asked_at: float, now: float) -> None:
        """Compare what the store says now, asked at ``asked_at``, with what it said last."""
        before = self._known.reading
        reading = None if record is None else _Reading(record, asked_at, now)
        if reading is None:
            # Nobody took up what was passed on: whoever else is there had that time, too.
            has_lapsed = before is not None and not before.record.value
            self._free.became_free(now - (HEAD_START_S - LAPSED_START_S if has_lapsed else 0.0))
            if before is not None:
                self._forget(linger_s=self._worth_s(before, now))
        else:
            self._free.since = None
            if before is None:
                self._forget()
            elif not reading.is_of_tenure(before):
                self._forget(linger_s=self._worth_s(before, now))
            elif reading.shows_renewal_since(before):
                self._known.alive_at = before.asked_at
        self._known.reading = reading
        self._agenda = _Agenda(_Stage.FOLLOW)

    def saw_advertisement(self, found: Advertisement, *, now: float) -> bool:
        """Take note of what the current tenure advertises; returns whether that is news."""
        if found == self._known.advertised:
            return False
        self._known.advertised = found
        self._is_leaving = False
        self._free.hold_until = 0.0  # others have had their turn: when this one goes, nobody waits
        self._link_down_since = now
        is_channel = self._own.is_clustered and bool(found.cluster_addr)
        self._follow(found if is_channel else None)
        return True

    def heard(self, notice: LeaderNotice) -> bool:
        """Take note of a leader change that is announced; returns whether it is (still) one."""
        reading = self._known.reading
        if reading is not None and notice.epoch < reading.record.epoch:
            return False  # of a former tenure: it came over a retiring channel, after its successor
        self._is_leaving = True
        if notice.phase == "passed":
            self._forget()
        return True

    def link_became(self, state: LinkState, *, now: float) -> None:
        """Take note of the state of the followed leader's channel."""
        self._link = state
        if state is LinkState.UP:
            self.has_followed = True
            self._link_down_since = None
        elif self._link_down_since is None:
            self._link_down_since = now

    def proved_dead(self) -> None:
        """Take note that the process of the holder that was to be checked has ended."""
        self._known.is_dead = True
        self._agenda.stage = _Stage.EVICT

    # --- what follows ----------------------------------------------------------------------------

    @property
    def is_dead(self) -> bool:
        """Whether the holder's process is proven to have ended."""
        return self._known.is_dead

    @property
    def advertised(self) -> Advertisement | None:
        """What the current tenure has advertised, as far as it is known."""
        return self._known.advertised

    def next_step(
        self, *, now: float, eligible: bool
    ) -> TryLock | CheckDeath | ReadAdvertisement | Wait:
        """
        Return what to do next; each step but ``Wait`` at most once for each reading of the record.

        Args:
            eligible: whether this node contends; one that stops takes up no lock but a passed one
                (to give it on at once, so that nobody waits for its ttl).
        """
        agenda = self._agenda
        if agenda.stage is _Stage.FOLLOW:
            agenda.stage = _Stage.CONTEND
            # First, so that whoever is to be proven dead is known by address.
            reading = self._known.reading
            if reading is not None and self._is_to_be_followed(reading.record):
                return ReadAdvertisement(reading.record.value, reading.record.epoch)
        if agenda.stage is _Stage.CONTEND:
            agenda.stage = _Stage.DONE
            step = self._attempt(now, eligible)
            if step is not None:
                return step
        if agenda.stage is _Stage.EVICT:
            agenda.stage = _Stage.DONE
            return TryLock(evict=agenda.checked)
        return Wait(self._wait_s(now, eligible))

    def shown(self) -> Shown:
        """Return leader, link and whether requests are to be parked."""
        known = self._known
        leader = None
        if known.reading is not None and known.advertised is not None:
            leader = Leader(
                uuid=known.reading.record.value,
                redirect_addr=known.advertised.redirect_addr,
                cluster_addr=known.advertised.cluster_addr,
                is_dead=known.is_dead,
            )
        link, unreachable = self._link, ""
        if link is LinkState.FAILED:
            down_since = self._link_down_since
            if down_since is None or known.alive_at < down_since:
                link = LinkState.CONNECTING  # it may be dead: park, do not redirect there
            elif known.advertised is not None:
                unreachable = known.advertised.cluster_addr
        return Shown(
            leader=leader,
            link=link,
            changing=leader is None or self._is_leaving or known.is_dead,
            unreachable=unreachable,
        )

    # --- how -------------------------------------------------------------------------------------

    def _is_to_be_followed(self, record: LockRecord) -> bool:
        """Return whether the advertisement is to be read: it is not known, or not final."""
        if not record.value or record.identity == self._own.identity:
            return False
        advertised = self._known.advertised
        if advertised is None:
            return True
        # A leader whose cluster port was taken advertises again when the port has become free.
        return self._own.is_clustered and not advertised.cluster_addr

    def _attempt(self, now: float, eligible: bool) -> TryLock | CheckDeath | None:
        """Return how to get at the lock; None: it is not to be had."""
        reading = self._known.reading
        record = None if reading is None else reading.record
        if record is not None and record.identity == self._own.identity:
            return TryLock()
        if not eligible:
            return None
        if record is None:
            return None if self._free.left_s(now) > 0 else TryLock()
        if self._link is LinkState.UP:
            return None
        self._agenda.checked = record
        advertised = self._known.advertised
        if advertised is None:
            return CheckDeath(record, None)
        return CheckDeath(record, advertised.cluster_addr or advertised.redirect_addr)

    def _wait_s(self, now: float, eligible: bool) -> float:
        """Seconds until the record is read again even if nothing is announced."""
        own, known = self._own, self._known
        reading = known.reading
        if reading is None:
            return max(SHORTEST_WAIT_S, self._free.left_s(now)) if eligible else own.poll_s
        waits = [reading.record.expires_in_s - (now - reading.read_at) + SHORTEST_WAIT_S]
        if known.advertised is None and reading.record.identity != own.identity:
            waits.append(known.look_s)
            known.look_s = min(known.look_s * LOOK_GROWTH, LAST_LOOK_S)
        if self._link is not LinkState.UP:
            down_s = now - (self._link_down_since or now)
            waits.append(min(own.poll_s, max(EVIDENCE_FIRST_S, down_s)))
        if not own.store_announces:
            waits.append(own.poll_s)
        return max(SHORTEST_WAIT_S, min(waits))

    def _worth_s(self, before: _Reading, now: float) -> float | None:
        """
        Seconds that the channel to a former leader is still worth something; None: as usual.

        That the lock ran out by what was read last does not tell that it did: it may have been
        renewed since, and passed on. Who still speaks, or has said that it leaves, is heard out.
        """
        if self._known.is_dead:
            return 0.0
        may_answer = self._is_leaving or self._link is LinkState.UP
        return 0.0 if before.has_run_out(now) and not may_answer else None

    def _forget(self, *, linger_s: float | None = None) -> None:
        self._known = _Known()
        if self.followed is not None:
            self._follow(None, linger_s=linger_s)

    def _follow(self, advertised: Advertisement | None, *, linger_s: float | None = None) -> None:
        """Want another channel, which has only begun, or none."""
        self.followed = advertised
        self.linger_s = linger_s
        self._link = LinkState.NONE if advertised is None else LinkState.CONNECTING


@dataclass(frozen=True, slots=True)
class _Reading:
    """A record, and the two moments between which the store has read it."""

    record: LockRecord
    asked_at: float
    read_at: float

    def is_of_tenure(self, other: _Reading) -> bool:
        mine, its = self.record, other.record
        return (mine.epoch, mine.value) == (its.epoch, its.value)

    def shows_renewal_since(self, before: _Reading) -> bool:
        # An answer may be slow: the least that this one can mean, and the most of the last one.
        at_least = self.asked_at + self.record.expires_in_s
        return at_least > before.read_at + before.record.expires_in_s + RENEWED_S

    def has_run_out(self, now: float) -> bool:
        return now >= self.read_at + self.record.expires_in_s


@dataclass(slots=True)
class _Known:
    """What is known of one leader, and forgotten with it."""

    reading: _Reading | None = None
    advertised: Advertisement | None = None
    is_dead: bool = False
    alive_at: float = -1.0  # it was seen to be alive (a renewal) no earlier than this
    look_s: float = FIRST_LOOK_S


@dataclass(slots=True)
class _FreeLock:
    """For how long a free lock is left to other nodes."""

    hold_until: float = 0.0
    rest_until: float = 0.0
    since: float | None = None

    def became_free(self, now: float) -> None:
        if self.since is None:
            self.since = now

    def left_s(self, now: float) -> float:
        rest_s = self.rest_until - now
        if now >= self.hold_until or self.since is None:
            return rest_s
        return max(rest_s, self.since + HEAD_START_S - now)


class _Stage(Enum):
    """How far the steps of one reading have been handed out."""

    FOLLOW = "follow the leader"
    CONTEND = "contend for the lock"
    EVICT = "take the lock from the dead"
    DONE = "done"


@dataclass(slots=True)
class _Agenda:
    """The steps of one reading; ``checked`` is the record whose holder may be dead."""

    stage: _Stage = _Stage.DONE
    checked: LockRecord | None = None
