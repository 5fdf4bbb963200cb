"""
Policy texts made into rules, and rules made into ACLs.

Rules of this file:

1. What a client writes is bounded before it is parsed, and what is not small is parsed in a worker
   thread: whoever may write a policy may not hold up the HA lock.
2. A text is parsed once: its rules are kept by its hash, whichever policy has it and whoever wrote
   it, so that an ACL is a merge, and a change of the active node parses nothing again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import trio

from baoha import offload
from baoha.errors import InvalidRequest, PermissionDenied
from baoha.sansio.policy import ACL, Decision, PolicyError, Rule, parse_policy
from baoha.sansio.policy_parameters import Restrictions

T = TypeVar("T")

# Generous: OpenBao bounds neither.
TEXT_CHARS_MAX: Final = 64 * 1024
BLOCKS_MAX: Final = 1000
# Of all policies of a token, by ``Rule.weight``. A decision looks at each rule with a wildcard:
# 10 ms at most.
ACL_RULES_MAX: Final = 10_000
# What comparing a request's parameters with a policy may look at: in the event loop; at all, about
# a second.
_PARAMETERS_INLINE: Final = 256
_COMPARED_INLINE_BYTES_MAX: Final = 512 * 1024
COMPARED_BYTES_MAX: Final = 1024 * 1024 * 1024
# Rules that the questions of one request may look at: five seconds.
LOOKED_AT_MAX: Final = 10_000_000
# Parsing costs up to 2 us a character, merging up to 3 us a rule.
_INLINE_CHARS_MAX: Final = 4 * 1024
_INLINE_RULES_MAX: Final = 2000
_RULE_COST_BYTES: Final = 64
# Of the texts whose rules are kept; the rules take about fifteen times as much memory.
_KEPT_CHARS_MAX: Final = 4 * 1024 * 1024


class RuleCache:
    """Rules by the text that says them."""

    def __init__(self) -> None:
        self._rules: dict[bytes, tuple[tuple[Rule, ...], int]] = {}
        self._chars = 0
        self._parsing: dict[bytes, trio.Event] = {}

    def forget(self) -> None:
        """Drop everything."""
        self._rules.clear()
        self._chars = 0

    async def accept(self, text: str) -> None:
        """
        Parse what a client wants to store.

        Raises:
            InvalidRequest: it is not a policy, or larger than any use.
            Overloaded: too much work at once.
        """
        if len(text) > TEXT_CHARS_MAX:
            raise InvalidRequest(f"policy is longer than {TEXT_CHARS_MAX} characters")
        try:
            await self.rules(text, blocks_max=BLOCKS_MAX)
        except PolicyError as exc:
            raise InvalidRequest(str(exc)) from exc

    async def rules(self, text: str, *, blocks_max: int | None = None) -> tuple[Rule, ...]:
        """
        Return the rules of a policy.

        Args:
            blocks_max: of a text that is new here.

        Raises:
            PolicyError: it is not a policy.
            Overloaded: too much work at once.
        """
        key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        # Of many who want the same one at once (after a change of the active node), one parses.
        while (running := self._parsing.get(key)) is not None:
            await running.wait()
        if (known := self._rules.pop(key, None)) is not None:
            self._rules[key] = known  # the newest: the others go first
            return known[0]
        self._parsing[key] = trio.Event()
        try:
            rules = await _parse(text, blocks_max)
        finally:
            self._parsing.pop(key).set()
        self._keep(key, rules, len(text))
        return rules

    def _keep(self, key: bytes, rules: tuple[Rule, ...], chars: int) -> None:
        self._rules[key] = (rules, chars)
        self._chars += chars
        while self._chars > _KEPT_CHARS_MAX:
            self._chars -= self._rules.pop(next(iter(self._rules)))[1]


async def _parse(text: str, blocks_max: int | None) -> tuple[Rule, ...]:
    if len(text) <= _INLINE_CHARS_MAX:
        return parse_policy(text, blocks_max=blocks_max)
    return await offload.run(lambda pause: parse_policy(text, blocks_max=blocks_max), len(text))


async def make_acl(rules: Sequence[Rule]) -> ACL:
    """
    Return what rules allow together.

    Raises:
        PermissionDenied: they are too many to decide anything in time.
        Overloaded: too much work at once.
    """
    weight = sum(rule.weight for rule in rules)
    if weight > ACL_RULES_MAX:
        raise PermissionDenied(
            f"the policies of this token have more than {ACL_RULES_MAX} path blocks"
        )
    if weight <= _INLINE_RULES_MAX:
        return ACL(rules)
    return await offload.run(lambda pause: ACL(rules), weight * _RULE_COST_BYTES)


async def described_acl(acl: ACL) -> dict[str, Any]:
    """Return the rules for user interfaces. Raises Overloaded: too much work at once."""
    if acl.weight <= _INLINE_RULES_MAX:
        return acl.describe()
    return await offload.run(lambda pause: acl.describe(), acl.weight * _RULE_COST_BYTES)


async def ask_each(acl: ACL, ask: Callable[[str], T], about: Sequence[str]) -> dict[str, T]:
    """
    Return the answer of an ACL to one question about each of many paths.

    Raises:
        InvalidRequest: they are too many for so many rules.
        Overloaded: too much work at once.
    """
    looked_at = len(about) * max(1, acl.weight)
    if looked_at <= _INLINE_RULES_MAX:
        return {path: ask(path) for path in about}
    if looked_at > LOOKED_AT_MAX:
        raise InvalidRequest("too many paths for the policies of this token")

    def answers(pause: offload.Pause) -> dict[str, T]:
        found: dict[str, T] = {}
        for path in about:
            pause()
            found[path] = ask(path)
        return found

    return await offload.run(answers, looked_at)


class Permission:
    """
    What a token may do with one path: found once, however often it is asked.

    Args:
        data: the parameters of the request.
        listing: the request asks for a listing.
    """

    def __init__(self, acl: ACL, path: str, data: Mapping[str, Any], *, listing: bool) -> None:
        self._ruling = acl.ruling(path, listing=listing)
        self._data = data
        self._is_kept: bool | None = None  # the restrictions of parameters

    async def decide(self, operation: str) -> Decision:
        """
        Say whether an operation may pass.

        Raises:
            PermissionDenied: its parameters are too much to be compared.
            Overloaded: too much work at once.
        """
        decision = self._ruling.decide(operation)
        restrictions = self._ruling.restrictions(operation)
        if not decision.allowed or restrictions is None:
            return decision
        if self._is_kept is None:
            self._is_kept = await _keeps_to(restrictions, self._data)
        return decision._replace(allowed=self._is_kept)


async def _keeps_to(restrictions: Restrictions, data: Mapping[str, Any]) -> bool:
    if len(data) <= _PARAMETERS_INLINE:
        work = restrictions.work(data)
        if work <= _COMPARED_INLINE_BYTES_MAX:
            return restrictions.permit(data)
    else:
        work = await offload.run(
            lambda pause: restrictions.work(data), len(data) * _RULE_COST_BYTES
        )
    if work > COMPARED_BYTES_MAX:
        raise PermissionDenied(
            "the request is too large to be compared with the policies of this token"
        )
    return await offload.run(partial(restrictions.permit, data), work)
