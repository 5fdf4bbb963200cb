"""
The first look at a request: how urgent it is, and whether it is refused before it is parsed.

Rules of this file:

1. A look costs microseconds, whatever the bytes are, and decides nothing that a parser decides: who
   is taken for more urgent than they are gains a turn, nothing else.
2. Only what is certainly one whole request in plain form is refused here; everything else takes the
   long way, which refuses too.

Theory of operation. To parse a request, to start its task and to answer it costs about half of what
executing it costs. A node that is offered four times what it can do would spend itself on refusals.
So while the queue of a lane stands, a request that would be refused is recognised by its first
bytes, and answered with bytes that are ready.

Source: ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

from baoha.api.admission import Admission, RequestKind
from baoha.api.answers import common_headers, overloaded
from baoha.api.paths import API_PREFIX, is_control
from baoha.core.view import NodeView

# A head that is longer is not looked at.
_HEAD_MAX: Final = 4096
_KINDS: Final = {
    "GET": RequestKind.READ,
    "HEAD": RequestKind.READ,
    "LIST": RequestKind.READ,
    "SCAN": RequestKind.READ,
    "POST": RequestKind.WRITE,
    "PUT": RequestKind.WRITE,
    "PATCH": RequestKind.WRITE,
    "DELETE": RequestKind.WRITE,
}
# Whoever sends one of these wants more than a plain answer, or ends the body in another way.
_NOT_PLAIN: Final = frozenset({b"transfer-encoding", b"expect", b"upgrade"})


class Urgency(IntEnum):
    """Who goes first."""

    CONTROL = 0  # what operators and balancers ask, see ``paths.is_control``
    KNOWN = 1  # a token that was valid a moment ago
    OTHER = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """
    What the first bytes say.

    Attributes:
        kind: its lane, None where it is not for admission or cannot be told.
        is_whole: these bytes are one request, no less and no more.
        keeps_alive: its connection may be used again.
    """

    urgency: Urgency
    kind: RequestKind | None = None
    is_whole: bool = False
    keeps_alive: bool = False

    @property
    def is_refusable(self) -> bool:
        """Whether enough is known to refuse it."""
        return self.is_whole and self.kind is not None


_UNCLEAR: Final = Look(urgency=Urgency.OTHER)
_CONTROL: Final = Look(urgency=Urgency.CONTROL)


class Door:
    """
    Looks at requests for one node.

    Attributes:
        refusal: the answer to those that are refused.
    """

    def __init__(self, view: NodeView, admission: Admission) -> None:
        answer = overloaded()
        headers = (*common_headers().items(), *answer.headers)
        self.refusal = replace(answer, headers=headers)
        self._view = view
        self._admission = admission

    def look(self, data: bytes) -> Look:
        """Look at the first bytes of a request."""
        end = data.find(b"\r\n\r\n", 0, _HEAD_MAX)
        if end < 0:
            return _UNCLEAR
        line, *fields = data[:end].split(b"\r\n")
        method, _, rest = line.partition(b" ")
        target, _, version = rest.partition(b" ")
        if version != b"HTTP/1.1":
            return _UNCLEAR
        kind = _KINDS.get(method.decode("latin-1"))
        path = target.partition(b"?")[0].decode("latin-1")
        if kind is None or not path.startswith(API_PREFIX):
            return _UNCLEAR
        if is_control(path.removeprefix(API_PREFIX)):
            return _CONTROL
        return self._look_at_fields(kind, fields, body_bytes=len(data) - end - 4)

    @property
    def is_crowded(self) -> bool:
        """Whether anybody may be refused at all."""
        return self._admission.is_crowded

    def refuses(self, kind: RequestKind, address: str, *, is_here: bool) -> bool:
        """
        Whether a request of a lane, from an address, is refused now.

        Args:
            is_here: its turn has come; else it has one after those who were let in before.
        """
        return self._admission.refuses(kind, address, is_here=is_here)

    def announce(self, kind: RequestKind) -> None:
        """Take note of a request that was let in."""
        self._admission.announce(kind)

    def arrive(self, kind: RequestKind) -> None:
        """Take note that a request that was announced is refused after all."""
        self._admission.arrive(kind)

    def press(self, address: str) -> None:
        """Take note that a client was refused for another reason: no turn came."""
        self._admission.press(address)

    def _look_at_fields(self, kind: RequestKind, fields: list[bytes], *, body_bytes: int) -> Look:
        token = b""
        lengths: list[bytes] = []
        keeps_alive, is_plain = True, True
        for field in fields:
            name, _, value = field.partition(b":")
            match name.lower():
                case b"x-vault-token":
                    token = value.strip()
                case b"authorization":
                    token = token or value.strip().removeprefix(b"Bearer ").strip()
                case b"content-length":
                    lengths.append(value.strip())
                case b"connection":
                    keeps_alive = value.strip().lower() == b"keep-alive"
                case other if other in _NOT_PLAIN:
                    is_plain = False
        is_known = bool(token) and self._view.recalls(token.decode("latin-1"))
        is_whole = is_plain and lengths == ([b"%d" % body_bytes] if lengths or body_bytes else [])
        if token and not is_known:
            # It may be valid: whoever has the time to look it up decides.
            return _UNCLEAR
        return Look(
            urgency=Urgency.KNOWN if is_known else Urgency.OTHER,
            kind=kind if is_known else RequestKind.STRANGER,
            is_whole=is_whole,
            keeps_alive=keeps_alive,
        )
