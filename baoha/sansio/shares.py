"""
Who gives way when something that is bounded is full: connections, upload bytes, parking places.

Rules of this file:

1. While there is room, nobody is limited: behind a load balancer all clients are one address.
2. When there is none, the class and the address that hold most above their share give way, and
   whoever asks counts as if it had been let in. A claim that would have to give way is refused.
3. Strangers (claims without a valid token) never displace the holder of a valid token. The share of
   the strangers together is theirs to keep, so that a login or an unsealing still finds a place.
4. What is firm is never displaced: something was begun that must be finished.

Theory of operation. Holders are kept by class and address, in the order of their last progress. Of
the heaviest address either the youngest gives way (it loses least), or the oldest (it has done
nothing for the longest time). An address at or below its share is left alone, with one exception:
the oldest holder of a token may displace the youngest, so that of several that all want more one
can always be completed.

A claim that fits costs a constant time, one that does not a look at every address that holds
something: the bound of these is the capacity.

Source: ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Final, Generic, NamedTuple, TypeVar

Holder = TypeVar("Holder")

# What a class or an address may keep of anything that is full, in parts of the whole.
SHARE: Final = 8


class Claim(NamedTuple):
    """On whose account something is held: a client's address, and whether its token is valid."""

    address: str
    is_known: bool = False


def client_address(remote_addr: str) -> str:
    """
    Return what counts as one client of "host:port": an IPv4 address, or an IPv6 network of 64 bits.

    A customer is given 64 bits at least, so single IPv6 addresses bound nobody. What is no IP
    address (a unix socket has none) is one client.
    """
    host = remote_addr.rpartition(":")[0]
    if not host.startswith("["):
        return host
    try:
        address = IPv6Address(host[1:-1].partition("%")[0])
    except ValueError:
        return host
    mapped = address.ipv4_mapped
    return str(mapped) if mapped is not None else f"{int(address) >> 64:x}::/64"


@dataclass(slots=True, eq=False)
class _Holding(Generic[Holder]):
    holder: Holder
    claim: Claim
    amount: int = 0
    is_loose: bool = True


@dataclass(slots=True, eq=False)
class _Group(Generic[Holder]):
    """One class of one address."""

    load: int = 0
    loose: dict[Holder, _Holding[Holder]] = field(default_factory=dict)  # by progress


@dataclass(slots=True)
class _Plan(Generic[Holder]):
    """A claim as if it had been let in, and who has gone for it so far."""

    mine: _Holding[Holder]  # what is held, or would be
    over: int
    loads: dict[Claim, int]  # changes
    strangers: int
    gone: dict[Holder, None] = field(default_factory=dict)

    def let_go(self, holding: _Holding[Holder]) -> None:
        self.gone[holding.holder] = None
        self.over -= holding.amount
        self.loads[holding.claim] = self.loads.get(holding.claim, 0) - holding.amount
        if not holding.claim.is_known:
            self.strangers -= holding.amount


class Shares(Generic[Holder]):
    """
    What is held of one bounded thing, and by whom.

    Args:
        capacity: in any unit.
        address_share: what an address may hold without giving way.
        strangers_share: what strangers may hold together without giving way.
        oldest_first: of the heaviest address the oldest gives way instead of the youngest.
    """

    def __init__(
        self,
        capacity: int,
        *,
        address_share: int,
        strangers_share: int,
        oldest_first: bool = False,
    ) -> None:
        self.capacity: Final = capacity
        self._address_share = address_share
        self._strangers_share = strangers_share
        self._oldest_first = oldest_first
        self._held: dict[Holder, _Holding[Holder]] = {}
        self._groups: dict[Claim, _Group[Holder]] = {}
        self._used = 0
        self._strangers = 0

    def __len__(self) -> int:
        """Return how many hold something."""
        return len(self._held)

    def __contains__(self, holder: Holder) -> bool:
        """Return whether somebody holds something."""
        return holder in self._held

    @property
    def used(self) -> int:
        """What is held in all."""
        return self._used

    @property
    def strangers(self) -> int:
        """What strangers hold of it."""
        return self._strangers

    def held(self, holder: Holder) -> int:
        """Return what one holds."""
        holding = self._held.get(holder)
        return 0 if holding is None else holding.amount

    # --- asking -----------------------------------------------------------------------------

    def who_gives_way(self, holder: Holder, claim: Claim, amount: int = 1) -> list[Holder] | None:
        """
        Say who must go so that a claim fits; None: the claim is the one to be refused.

        Nothing is changed. A holder may ask for more; its first claim counts.
        """
        over = self._used + amount - self.capacity
        if over <= 0:
            return []
        mine = self._held.get(holder) or _Holding(holder, claim)
        strangers = self._strangers + (0 if mine.claim.is_known else amount)
        plan = _Plan(mine, over, {mine.claim: amount}, strangers)
        while plan.over > 0:
            giving = self._next_to_go(plan)
            if giving is None or giving is mine:
                return None
            plan.let_go(giving)
        return list(plan.gone)

    def take(self, holder: Holder, claim: Claim, amount: int = 1) -> list[Holder] | None:
        """As ``who_gives_way``; those are out then, and the holder is in. None: nothing changed."""
        giving = self.who_gives_way(holder, claim, amount)
        if giving is not None:
            for other in giving:
                self.leave(other)
            self.enter(holder, claim, amount)
        return giving

    def _next_to_go(self, plan: _Plan[Holder]) -> _Holding[Holder] | None:
        if plan.strangers > self._strangers_share:
            giving = self._of_heaviest(plan, is_known=False, share=0)
            if giving is not None:
                return giving
        if not plan.mine.claim.is_known:
            return None
        giving = self._of_heaviest(plan, is_known=True, share=self._address_share)
        if giving is None or (giving is plan.mine and self._is_oldest_known(giving)):
            giving = self._youngest_known(plan)
        return giving

    def _of_heaviest(
        self, plan: _Plan[Holder], *, is_known: bool, share: int
    ) -> _Holding[Holder] | None:
        asking = plan.mine.claim
        most, found = share, None
        if asking.is_known is is_known and asking not in self._groups and not self._oldest_first:
            most, found = max(share, plan.loads[asking]), plan.mine
            if plan.loads[asking] <= share:
                found = None
        for claim, group in self._groups.items():
            load = group.load + plan.loads.get(claim, 0)
            # Among equals whoever asks: else two of them would displace each other for ever.
            is_heavier = load > most or (found is not None and load == most and claim == asking)
            if claim.is_known is is_known and is_heavier:
                giving = self._of_group(plan, claim, group)
                if giving is not None:
                    most, found = load, giving
        return found

    def _of_group(
        self, plan: _Plan[Holder], claim: Claim, group: _Group[Holder]
    ) -> _Holding[Holder] | None:
        if self._oldest_first:
            candidates = iter(group.loose.values())
        elif claim == plan.mine.claim and plan.mine.holder not in self._held:
            return plan.mine  # the youngest of all
        else:
            candidates = reversed(group.loose.values())
        for holding in candidates:
            if holding.holder not in plan.gone and not (
                self._oldest_first and holding is plan.mine
            ):
                return holding
        return None

    def _youngest_known(self, plan: _Plan[Holder]) -> _Holding[Holder] | None:
        if plan.mine.holder not in self._held:
            return plan.mine
        for holding in reversed(self._held.values()):
            if holding.is_loose and holding.claim.is_known and holding.holder not in plan.gone:
                return holding
        return None

    def _is_oldest_known(self, holding: _Holding[Holder]) -> bool:
        known = (held for held in self._held.values() if held.claim.is_known and held.is_loose)
        return next(known, None) is holding

    # --- holding ----------------------------------------------------------------------------

    def enter(self, holder: Holder, claim: Claim, amount: int = 1) -> None:
        """Let a claim in, whatever is held: who asked first (``take``) keeps the bound."""
        holding = self._held.get(holder)
        if holding is None:
            holding = self._held[holder] = _Holding(holder, claim)
            self._groups.setdefault(claim, _Group()).loose[holder] = holding
        self._add(holding, amount)

    def leave(self, holder: Holder) -> None:
        """Give back all that one holds; who holds nothing may leave too."""
        holding = self._held.pop(holder, None)
        if holding is None:
            return
        group = self._groups[holding.claim]
        group.loose.pop(holder, None)
        self._add(holding, -holding.amount)
        if not group.load:
            del self._groups[holding.claim]

    def keep_only(self, holder: Holder, amount: int) -> None:
        """Give back what one holds above an amount."""
        holding = self._held.get(holder)
        if amount <= 0:
            self.leave(holder)
        elif holding is not None and holding.amount > amount:
            self._add(holding, amount - holding.amount)

    def firm(self, holder: Holder) -> None:
        """From now on it is never displaced. It still counts."""
        holding = self._held.get(holder)
        if holding is not None and holding.is_loose:
            holding.is_loose = False
            del self._groups[holding.claim].loose[holder]

    def loosen(self, holder: Holder) -> None:
        """From now on it may be displaced, and counts as the youngest of its address."""
        holding = self._held.get(holder)
        if holding is not None:
            holding.is_loose = True
            loose = self._groups[holding.claim].loose
            loose.pop(holder, None)
            loose[holder] = holding

    def _add(self, holding: _Holding[Holder], amount: int) -> None:
        holding.amount += amount
        self._groups[holding.claim].load += amount
        self._used += amount
        if not holding.claim.is_known:
            self._strangers += amount
