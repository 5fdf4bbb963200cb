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
from baoha.sansio.policy import ACL, PolicyError, Rule, parse_policy

T = TypeVar("T")

# Generous: OpenBao bounds neither.
TEXT_CHARS_MAX: Final = 64 * 1024
BLOCKS_MAX: Final = 1000
# Of all policies of a token. A decision looks at each rule with "+" that may match: 10 ms at most.
ACL_RULES_MAX: Final = 10_000
# Characters of a request that are compared with the parameters of a rule: a quarter of a second.
COMPARED_CHARS_MAX: Final = 256 * 1024 * 1024
_COMPARED_INLINE_CHARS_MAX: Final = 1024 * 1024
# A worker thread compares so many in the time that it takes for one byte of something else.
_COMPARED_CHARS_A_BYTE: Final = 16
# A question looks at one rule of so many, by the index; all questions of a request at so many.
_INDEXED: Final = 16
LOOKED_AT_MAX: Final = 10_000_000
# Parsing costs up to 2 us a character, merging up to 10 us a rule.
_INLINE_CHARS_MAX: Final = 4 * 1024
_INLINE_RULES_MAX: Final = 500
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
    size = sum(rule.weight for rule in rules)
    if size > ACL_RULES_MAX:
        raise PermissionDenied(
            f"the policies of this token have more than {ACL_RULES_MAX} path blocks"
        )
    if size <= _INLINE_RULES_MAX:
        return ACL(rules)
    return await offload.run(lambda pause: ACL(rules), size * _RULE_COST_BYTES)


async def keeps_to(rule: Rule, data: Mapping[str, Any]) -> bool:
    """
    Return whether the parameters of a request keep to the restrictions of a rule.

    Raises:
        PermissionDenied: they are too large to be compared with all that the rule names.
        Overloaded: too much work at once.
    """
    chars = rule.parameters_cost(data)
    if chars <= _COMPARED_INLINE_CHARS_MAX:
        return rule.permits_parameters(data)
    if chars > COMPARED_CHARS_MAX:
        raise PermissionDenied(
            "the parameters are too large to be compared with those that the policies of this "
            "token name"
        )
    check = partial(rule.permits_parameters, data)
    return await offload.run(check, chars // _COMPARED_CHARS_A_BYTE)


async def described_acl(acl: ACL) -> dict[str, Any]:
    """Return the rules for user interfaces. Raises Overloaded: too much work at once."""
    if acl.size <= _INLINE_RULES_MAX:
        return acl.describe()
    return await offload.run(lambda pause: acl.describe(), acl.size * _RULE_COST_BYTES)


async def ask_each(acl: ACL, ask: Callable[[str], T], about: Sequence[str]) -> dict[str, T]:
    """
    Return the answer of an ACL to one question about each of many paths.

    Raises:
        InvalidRequest: they are too many for so many rules.
        Overloaded: too much work at once.
    """
    looked_at = len(about) * (1 + acl.size // _INDEXED)
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
