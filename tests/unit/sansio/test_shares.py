"""Shares: the bound holds, strangers give way to tokens, the heaviest address to the others."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from baoha.sansio.shares import Claim, Shares, client_address


def shares(capacity: int = 8, **options: int | bool) -> Shares[str]:
    chosen = {"address_share": capacity // 8, "strangers_share": capacity // 8, **options}
    return Shares(capacity, **chosen)  # type: ignore[arg-type]


def fill(room: Shares[str], *claims: Claim) -> None:
    for number, claim in enumerate(claims):
        assert room.take(f"{claim.address}{number}", claim) == []


KNOWN = Claim("k", is_known=True)
OTHER = Claim("o", is_known=True)
STRANGER = Claim("s")


@pytest.mark.parametrize("claim", [KNOWN, STRANGER])
def test_one_address_may_hold_everything_while_there_is_room(claim: Claim) -> None:
    room = shares()
    fill(room, *[claim] * 8)
    assert room.used == 8


@pytest.mark.parametrize(
    ("held", "asking", "gives_way"),
    [
        # Strangers.
        ([STRANGER] * 8, STRANGER, None),
        ([STRANGER] * 8, KNOWN, "s7"),
        ([STRANGER] * 8, Claim("t"), "s7"),
        ([KNOWN] * 8, STRANGER, None),
        ([KNOWN] * 7 + [STRANGER], Claim("t"), None),
        ([KNOWN] * 6 + [STRANGER] * 2, OTHER, "s7"),
        ([KNOWN] * 7 + [STRANGER], OTHER, "k6"),
        ([STRANGER] * 5 + [Claim("t")] * 3, KNOWN, "s4"),
        # Addresses.
        ([KNOWN] * 8, KNOWN, None),
        ([KNOWN] * 8, OTHER, "k7"),
        ([KNOWN] * 4 + [OTHER] * 4, OTHER, None),
        ([KNOWN] * 4 + [OTHER] * 4, KNOWN, None),
        ([KNOWN] * 5 + [OTHER] * 3, OTHER, "k4"),
        ([Claim(f"a{i}", is_known=True) for i in range(8)], OTHER, None),
    ],
)
def test_full_room_the_heaviest_gives_way(
    held: list[Claim], asking: Claim, gives_way: str | None
) -> None:
    room = shares()
    fill(room, *held)
    assert room.take("new", asking) == (None if gives_way is None else [gives_way])
    assert ("new" in room) is (gives_way is not None)
    assert room.used == 8


def test_oldest_of_the_heaviest_gives_way_where_that_is_asked() -> None:
    room = shares(address_share=0, oldest_first=True)
    fill(room, *[KNOWN] * 5, *[OTHER] * 3)
    assert room.take("new", OTHER) == ["k0"]
    assert room.take("newer", OTHER) == ["o5"]  # equals: whoever asks
    assert room.take("newest", KNOWN) == ["k1"]


def test_progress_makes_the_oldest_the_youngest() -> None:
    room = shares(address_share=0, oldest_first=True)
    fill(room, *[KNOWN] * 8)
    room.loosen("k0")
    assert room.take("new", KNOWN) == ["k1"]


def test_what_is_firm_is_not_displaced_and_counts() -> None:
    room = shares(address_share=0, oldest_first=True)
    fill(room, *[KNOWN] * 8)
    for number in range(8):
        room.firm(f"k{number}")
    assert room.take("new", OTHER) is None
    room.loosen("k3")
    assert room.take("new", OTHER) == ["k3"]


def test_oldest_can_always_grow_to_the_end() -> None:
    """Nobody is above its share, everybody wants more: the youngest go."""
    room = shares(64)
    for number in range(8):
        assert room.take(f"{number}", Claim(f"a{number}", is_known=True), 8) == []
    assert room.take("7", Claim("a7", is_known=True), 8) is None
    for youngest in ("7", "6", "5", "4", "3", "2", "1"):
        assert room.take("0", Claim("a0", is_known=True), 8) == [youngest]
    assert room.held("0") == 64
    assert room.take("0", Claim("a0", is_known=True), 1) is None


def test_large_claim_displaces_several_or_nobody() -> None:
    room = shares(16)
    fill(room, *[STRANGER] * 16)
    assert room.take("new", KNOWN, 17) is None
    assert room.take("new", KNOWN, 15) is None  # two places are the strangers' own
    assert room.used == room.strangers == 16
    assert room.take("new", KNOWN, 14) == [f"s{number}" for number in range(15, 1, -1)]
    assert (room.used, room.strangers) == (16, 2)


def test_keep_only_and_leave_give_back() -> None:
    room = shares()
    room.take("a", STRANGER, 5)
    room.keep_only("a", 7)
    assert room.held("a") == 5
    room.keep_only("a", 2)
    assert (room.used, room.strangers, room.held("a")) == (2, 2, 2)
    room.leave("a")
    room.leave("a")
    room.keep_only("a", 1)
    assert (room.used, room.strangers, len(room)) == (0, 0, 0)


@pytest.mark.parametrize(
    ("remote", "client"),
    [
        ("192.0.2.1:5000", "192.0.2.1"),
        ("[2001:db8:1:2:3::4]:80", "20010db800010002::/64"),
        ("[2001:db8:1:2:ffff::1]:81", "20010db800010002::/64"),
        ("[::ffff:192.0.2.1]:80", "192.0.2.1"),
        ("[fe80::1%eth0]:80", "fe80000000000000::/64"),
        ("[not an address]:80", "[not an address]"),
        ("", ""),
        ("unix", ""),
        ("host.example:1", "host.example"),
    ],
)
def test_address_of_client_is_what_one_customer_has(remote: str, client: str) -> None:
    assert client_address(remote) == client


CAPACITY = 24
SHARE_OF = 3


class Room(RuleBasedStateMachine):
    """Any order of claims, growth, progress and leaving."""

    def __init__(self) -> None:
        super().__init__()
        self.room: Shares[int] = Shares(CAPACITY, address_share=SHARE_OF, strangers_share=SHARE_OF)
        self.claims: dict[int, Claim] = {}
        self.amounts: dict[int, int] = {}
        self.firm: set[int] = set()
        self.next = 0

    def load(self, claim: Claim) -> int:
        return sum(n for holder, n in self.amounts.items() if self.claims[holder] == claim)

    def strangers(self) -> int:
        return sum(n for holder, n in self.amounts.items() if not self.claims[holder].is_known)

    def take(self, holder: int, claim: Claim, amount: int) -> None:
        strangers, used = self.strangers(), sum(self.amounts.values())
        giving = self.room.take(holder, claim, amount)
        if used + amount <= CAPACITY:
            assert giving == []
        if giving is None:
            # A token is not refused while the strangers hold what would do beyond their share.
            firm = any(not self.claims[other].is_known for other in self.firm)
            spare = strangers - SHARE_OF
            assert not claim.is_known or firm or used + amount - CAPACITY > spare
            return
        for other in giving:
            assert other != holder
            assert other not in self.firm
            assert claim.is_known or not self.claims[other].is_known
            del self.amounts[other]
        self.claims[holder] = claim
        self.amounts[holder] = self.amounts.get(holder, 0) + amount

    @rule(address=st.sampled_from("abc"), is_known=st.booleans(), amount=st.integers(1, 6))
    def claim(self, address: str, is_known: bool, amount: int) -> None:
        self.next += 1
        self.take(self.next, Claim(address, is_known), amount)

    @precondition(lambda self: self.amounts)
    @rule(data=st.data(), amount=st.integers(1, 6))
    def grow(self, data: st.DataObject, amount: int) -> None:
        holder = data.draw(st.sampled_from(sorted(self.amounts)))
        self.take(holder, self.claims[holder], amount)

    @precondition(lambda self: self.amounts)
    @rule(data=st.data(), what=st.sampled_from(["leave", "firm", "loosen", "keep"]))
    def change(self, data: st.DataObject, what: str) -> None:
        holder = data.draw(st.sampled_from(sorted(self.amounts)))
        if what == "leave":
            self.room.leave(holder)
            del self.amounts[holder]
            self.firm.discard(holder)
        elif what == "firm":
            self.room.firm(holder)
            self.firm.add(holder)
        elif what == "loosen":
            self.room.loosen(holder)
            self.firm.discard(holder)
        else:
            self.room.keep_only(holder, 1)
            self.amounts[holder] = 1

    @invariant()
    def adds_up(self) -> None:
        assert self.room.used == sum(self.amounts.values()) <= CAPACITY
        assert self.room.strangers == self.strangers()
        assert len(self.room) == len(self.amounts)


TestRoom = Room.TestCase
TestRoom.settings = settings(max_examples=30, deadline=None)


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.booleans()), max_size=200))
def test_each_address_with_tokens_comes_to_its_share(floods: list[tuple[str, bool]]) -> None:
    """Whatever others did before, an address with tokens gets its share of a full room."""
    room: Shares[int] = Shares(64, address_share=8, strangers_share=8)
    for number, (address, is_known) in enumerate(floods):
        room.take(number, Claim(address, is_known))
    others = {address for address, is_known in floods if is_known}
    got = sum(room.take(1000 + n, Claim("new", is_known=True)) is not None for n in range(8))
    assert got >= min(8, 56 // (len(others) + 1))
