"""
What operators send to init and unseal, checked.

Rules of this file: key shares appear in no error text; what is longer than anything valid is not
decoded.

Source: tests/conformance/recordings/02-init.json and tests/conformance/recordings/04-unseal.json.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Any, Final

from baoha.core.view import InitParameters
from baoha.errors import InvalidRequest
from baoha.offload import Pause
from baoha.sansio.formats.json_decoder import decode_record

_INIT_FIELDS: Final = {
    "pgp_keys": "[]string",
    "recovery_pgp_keys": "[]string",
    "recovery_shares": "int",
    "recovery_threshold": "int",
    "root_token_pgp_key": "string",
    "secret_shares": "int",
    "secret_threshold": "int",
    "stored_shares": "int",
}
_UNSEAL_FIELDS: Final = {"key": "string", "migrate": "bool", "reset": "bool"}
# A hexadecimal share of any other length is read as base64. Source: measured
_HEX_SHARE_BYTES: Final = range(16, 34)
_SHARE_CHARS_MAX: Final = 1024
_BASE64_ALPHABET: Final = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnsealInput:
    """One step of an unsealing."""

    share: bytes | None = field(default=None, repr=False)
    reset: bool = False
    migrate: bool = False


def init_parameters(body: bytes, pause: Pause, *, seal_type: str) -> InitParameters:
    """
    Return the parameters of an initialisation; their relations are the seal's to check.

    Args:
        pause: called between pieces of a large body.

    Raises:
        InvalidRequest: with OpenBao's text; or PGP keys were given, which we do not support.
    """
    given = decode_record(body, "InitRequest", _INIT_FIELDS, pause=pause)
    if given.get("recovery_pgp_keys"):
        raise InvalidRequest(
            f"parameters recovery_pgp_keys not applicable to seal type {seal_type}"
        )
    shares = given.get("secret_shares", 0)
    if shares > 0:
        _check_pgp_keys(given, shares)
    return InitParameters(
        secret_shares=shares,
        secret_threshold=given.get("secret_threshold", 0),
        recovery_shares=given.get("recovery_shares", 0),
        recovery_threshold=given.get("recovery_threshold", 0),
    )


def unseal_input(body: bytes, pause: Pause) -> UnsealInput:
    """
    Return what to do with the seal.

    Args:
        pause: called between pieces of a large body.

    Raises:
        InvalidRequest: with OpenBao's text.
    """
    given = decode_record(body, "UnsealRequest", _UNSEAL_FIELDS, pause=pause)
    if given.get("reset"):
        return UnsealInput(reset=True)
    key = given.get("key", "")
    if not key:
        raise InvalidRequest(
            "'key' must be specified in request body as JSON, or 'reset' set to true"
        )
    return UnsealInput(share=_share(key), migrate=bool(given.get("migrate")))


def _share(text: str) -> bytes:
    if len(text) > _SHARE_CHARS_MAX:
        raise InvalidRequest("'key' must be a valid hex or base64 string")
    try:
        share = binascii.unhexlify(text)
        if len(share) in _HEX_SHARE_BYTES:
            return share
    except ValueError:
        pass  # not hexadecimal: it may be base64
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise InvalidRequest("'key' must be a valid hex or base64 string") from None


def _check_pgp_keys(given: dict[str, Any], shares: int) -> None:
    keys = given.get("pgp_keys", [])
    if keys and len(keys) != shares:
        raise InvalidRequest(
            "invalid seal configuration: count mismatch between number of provided PGP keys and "
            "number of shares"
        )
    for key in (*keys, *filter(None, [given.get("root_token_pgp_key")])):
        try:
            base64.b64decode(key, validate=True)
        except ValueError as exc:
            raise InvalidRequest(
                "invalid seal configuration: error decoding given PGP key: illegal base64 data at "
                f"input byte {_bad_base64_at(key)}"
            ) from exc
        raise InvalidRequest("PGP encryption of key shares is not available in this release")


def _bad_base64_at(text: str) -> int:
    for offset, char in enumerate(text.rstrip("=")):
        if char not in _BASE64_ALPHABET:
            return offset
    return len(text) - len(text) % 4
