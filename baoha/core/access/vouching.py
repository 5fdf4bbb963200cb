"""
Whether a token is known: a hint, for whoever shares out places before anything is executed.

Rules of this file:

1. A hint authorises nothing and spends nothing. It may be some seconds old, and "no" also means
   "not found out": the only harm is a place among strangers.
2. Strangers cannot make it dear. A text that cannot be a token costs no look-up; few look-ups go to
   the store at once, few wait, and what comes beyond is a "no".
3. A flood of unknown tokens does not displace known ones: they are remembered apart, and a known
   one stays known for a while when it cannot be asked anew.
4. No token is kept, only a hash of it under a key that is drawn at the start.

The store is read through the barrier and past all other caches, so it works on a standby as well.

Source: ours.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from datetime import datetime
from typing import Final

import trio

from baoha.core.access.tokens import TOKEN_LENGTH_MAX, TokenStore
from baoha.core.keys.barrier import Barrier
from baoha.errors import BaohaError

# Seconds on trio's clock.
KNOWN_S: Final = 5.0
UNKNOWN_S: Final = 1.0
STALE_S: Final = 60.0
LOOKUP_S: Final = 0.5  # with the wait for a turn; whoever asks has a client waiting
LOOKUPS_MAX: Final = 2  # at once; each is a read or a few
WAITING_MAX: Final = 64
_KNOWN_MAX: Final = 16_384
_UNKNOWN_MAX: Final = 4_096


class TokenHints:
    """What one node knows about tokens in passing. Safe for concurrent use by many tasks."""

    def __init__(
        self,
        barrier: Barrier,
        *,
        random_bytes: Callable[[int], bytes],
        now: Callable[[], datetime],
    ) -> None:
        self._barrier = barrier
        self._tokens = TokenStore(barrier, random_bytes=random_bytes, now=now, entries_max=0)
        self._key = random_bytes(32)
        self._known: dict[bytes, float] = {}  # -> when the store said so
        self._unknown: dict[bytes, float] = {}
        self._asking: dict[bytes, trio.Event] = {}
        self._turns = trio.CapacityLimiter(LOOKUPS_MAX)
        self._generation = 0

    def forget(self) -> None:
        """Drop everything: the node was sealed."""
        self._generation += 1
        self._known.clear()
        self._unknown.clear()
        self._tokens.forget()

    def recalls(self, token: str) -> bool:
        """Whether a token was found valid within the last minute. From memory."""
        name = self._name(token)
        return trio.current_time() < self._known.get(name, -math.inf) + STALE_S

    async def vouches_for(self, token: str) -> bool:
        """Return whether a token is known and has not ended, as far as that is cheap to tell."""
        token, name = token.strip(), self._name(token)
        if self._barrier.sealed or not name:
            return False
        with trio.move_on_after(LOOKUP_S):
            while (remembered := self._remembered(name)) is None:
                if (asking := self._asking.get(name)) is not None:
                    await asking.wait()  # one look-up per token, however many ask
                elif len(self._asking) < LOOKUPS_MAX + WAITING_MAX:
                    await self._ask(name, token)
                else:
                    break
        return self._is_known(name, STALE_S) if remembered is None else remembered

    def _name(self, token: str) -> bytes:
        """
        Return what a token is remembered as; b"" for a text that cannot be one. Clients may choose
        theirs, so the form is wide.
        """
        token = token.strip()
        if not (0 < len(token) <= TOKEN_LENGTH_MAX and token.isascii() and token.isprintable()):
            return b""
        return hashlib.blake2b(token.encode(), key=self._key, digest_size=16).digest()

    def _remembered(self, name: bytes) -> bool | None:
        if self._is_known(name, KNOWN_S):
            return True
        if trio.current_time() < self._unknown.get(name, -math.inf) + UNKNOWN_S:
            return self._is_known(name, STALE_S)
        return None

    def _is_known(self, name: bytes, age_max_s: float) -> bool:
        return trio.current_time() < self._known.get(name, -math.inf) + age_max_s

    async def _ask(self, name: bytes, token: str) -> None:
        """Ask the store. Without an answer a token is as unknown as before, for a moment."""
        generation = self._generation
        self._asking[name] = trio.Event()
        try:
            async with self._turns:
                is_known = await self._tokens.find(token) is not None
            if not is_known:
                self._known.pop(name, None)
        except BaohaError:
            is_known = False
        finally:
            self._asking.pop(name).set()
        if generation != self._generation:
            return
        if is_known:
            _remember(self._known, name, _KNOWN_MAX)
            self._unknown.pop(name, None)
        else:
            _remember(self._unknown, name, _UNKNOWN_MAX)


def _remember(names: dict[bytes, float], name: bytes, count_max: int) -> None:
    names.pop(name, None)
    if len(names) >= count_max:
        names.pop(next(iter(names)))
    names[name] = trio.current_time()
