"""
The whole exception tree.

Every error answers three questions in its type: whose fault is it, did the
operation happen (``outcome``), and which HTTP status says so (``status_hint``).
Rule of this file: it imports nothing of ours, and no text in it carries a secret. The text of an
error that is not ours may: of those only ``type_and_place`` is logged.

"Someone else holds it" is a value (``None``); "cannot tell" is an exception.
"""

from __future__ import annotations

import traceback
from typing import Final, Literal

Outcome = Literal["not_applied", "unknown"]
# More of a traceback helps nobody: a recursion without end has a thousand places.
_PLACES_MAX: Final = 20


def type_and_place(error: BaseException) -> str:
    """
    Return what may be logged of an error that nobody foresaw: its type and where it was raised,
    innermost last. Never its text, which may quote what a client, a peer or a store has sent.
    """
    places = traceback.format_tb(error.__traceback__, limit=-_PLACES_MAX)
    return f"{type(error).__name__}\n{''.join(places)}".rstrip()


class BaohaError(Exception):
    """
    Root of every error that baoha raises on purpose.

    ``outcome`` says whether the operation may have taken effect: "not_applied"
    is a promise that it did not, "unknown" means it may have.
    """

    status_hint: int = 500
    outcome: Outcome = "not_applied"


class ConfigError(BaohaError):
    """The operator's configuration is wrong. ``code``: a diagnostic code (BH-101), or ""."""

    def __init__(self, message: str, *, code: str = "") -> None:
        super().__init__(message)
        self.code = code


# --- the client's fault -------------------------------------------------------------------------


class RequestError(BaohaError):
    """The request is wrong; ``errors`` is the list the API answers (may be empty)."""

    status_hint = 400

    def __init__(self, *errors: str, status: int | None = None) -> None:
        super().__init__("; ".join(errors))
        self.errors: tuple[str, ...] = errors
        if status is not None:
            self.status_hint = status


class InvalidRequest(RequestError):
    """400: malformed or refused input."""


class PermissionDenied(RequestError):
    """403: no token, a bad token, or a token without the capability."""

    status_hint = 403

    def __init__(self, *errors: str) -> None:
        super().__init__(*(errors or ("permission denied",)))


class NotFound(RequestError):
    """404: nothing there, or no such route."""

    status_hint = 404


class UnsupportedOperation(RequestError):
    """405: the path exists, the operation does not."""

    status_hint = 405

    def __init__(self, *errors: str) -> None:
        super().__init__(*(errors or ("unsupported operation",)))


class PayloadTooLarge(RequestError):
    """413: the body is over the listener's limit."""

    status_hint = 413


class TooLargeForStore(PayloadTooLarge):
    """413: more than the store takes (a value, a key, a batch). Nothing was sent to it."""


class Overloaded(RequestError):
    """503: more than this node does at once. Nothing was executed; the client may come back."""

    status_hint = 503

    def __init__(self, *errors: str) -> None:
        super().__init__(*(errors or ("too much work at once, nothing was executed",)))


# --- seal ---------------------------------------------------------------------------------------


class SealError(BaohaError):
    """The seal state does not allow the operation."""

    status_hint = 400


class Sealed(SealError):
    """The barrier is sealed."""

    status_hint = 503

    def __init__(self, message: str = "Vault is sealed") -> None:
        super().__init__(message)


class NotInitialized(SealError):
    """There is no keyring in storage."""

    def __init__(self, message: str = "Vault is not initialized") -> None:
        super().__init__(message)


class AlreadyInitialized(SealError):
    """There is a keyring in storage already."""

    def __init__(self, message: str = "Vault is already initialized") -> None:
        super().__init__(message)


class InvalidKeyShare(SealError):
    """A key share, or the key combined from the shares, is wrong."""


# --- high availability --------------------------------------------------------------------------


class HAError(BaohaError):
    """The HA state does not allow the operation."""

    status_hint = 503


class NotActive(HAError):
    """
    This node is not active: nothing was executed; the caller parks, forwards or redirects.
    """


class LeadershipLost(HAError):
    """
    The tenure ended while the request ran. A write may have landed: it is never silently repeated.
    """

    outcome: Outcome = "unknown"


class StepDownRefused(HAError):
    """409: a step-down that would leave the cluster without an active node."""

    status_hint = 409


class NotTakenUp(HAError):
    """
    503: active duty was given up as asked, and it is not known that the successor has taken it up.
    """

    outcome: Outcome = "unknown"


class LockLost(HAError):
    """The HA lock is held by somebody else, or has expired: the tenure is over."""


class ForwardingError(BaohaError):
    """A request could not be passed to the active node."""

    status_hint = 503


class CannotForward(ForwardingError):
    """Nothing was sent: the request may be parked, sent elsewhere or redirected."""


class ForwardingInterrupted(ForwardingError):
    """The request was sent and no reply came: reads may be retried, writes may not."""

    outcome: Outcome = "unknown"


# --- storage ------------------------------------------------------------------------------------


class StorageError(BaohaError):
    """The store did not do what was asked."""


class StorageUnavailable(StorageError):
    """
    The store is slow, silent, full, locked or gone; it may come back.

    Args:
        message: lower case, the cause included, no secret and no credential in it.
        outcome: "unknown" when a write may have landed (sent, no reply).
    """

    status_hint = 500

    def __init__(self, message: str, *, outcome: Outcome = "not_applied") -> None:
        super().__init__(message)
        self.outcome = outcome


class TransactionConflict(StorageError):
    """Something the transaction had read was changed meanwhile: nothing was written, try again."""

    def __init__(self, message: str = "transaction commit failed") -> None:
        super().__init__(message)


class FencedWrite(StorageError):
    """The fence of the write is no longer the lock's: nothing was written, the tenure is over."""

    def __init__(self, message: str = "lock has changed ownership before attempting write") -> None:
        super().__init__(message)


class ReadOnly(StorageError):
    """A write was asked of a barrier that has no tenure (a standby's)."""

    def __init__(self, message: str = "cannot write to readonly storage") -> None:
        super().__init__(message)


class StorageCorrupt(StorageError):
    """What the store returned cannot be what was written. Never retried."""


class KeysDoNotFit(StorageCorrupt):
    """The keys of this node do not lead to the stored keyring: it has to be unsealed anew."""


class BarrierError(StorageCorrupt):
    """An entry does not decrypt: one text for all causes, so that nothing is learned from it."""

    def __init__(self, message: str = "decryption failed") -> None:
        super().__init__(message)


class UnknownTerm(BarrierError):
    """An entry is under a key this node does not have (yet): reading the keyring may help."""

    def __init__(self, term: int) -> None:
        super().__init__(f"no decryption key available for term {term}")
        self.term = term
