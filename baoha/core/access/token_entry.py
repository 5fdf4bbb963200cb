"""
One token as stored, and the names under which it is stored.

Rule of this file: a token goes in, its keyed hash comes out; nothing here keeps the token.

Layout below ``sys/token/``: ``id/<hash>`` the entry, ``accessor/<hash of accessor>`` the hash of
its token, ``parent/<hash>/<hash of child>`` the index of children, ``salt`` the key of the hashes.

Source: OpenBao's layout; the hash is HMAC-SHA256, for tokens that a client chose itself the salted
SHA-1 that OpenBao uses (and warns of).
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from baoha import names
from baoha.core.keys.barrier import BarrierTransaction
from baoha.errors import StorageCorrupt
from baoha.sansio.durations import format_timestamp, parse_timestamp

SERVICE_PREFIX: Final = "s."
USES_SPENT: Final = -1  # the last use is being carried out; the token ends with it
TOKEN_LENGTH: Final = 24  # letters and digits after the prefix: 143 random bits
TOKENS_PREFIX: Final = "sys/token/"
_SALT_BYTES: Final = 32
_ALPHABET: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginRecord:
    """
    Which login a token comes from.

    Attributes:
        mount: the uuid of the auth method's mount; the token ends with it.
        alias: whom the method knows the client as.
        max_ttl_s: what the method allows, all renewals together; 0: as the mount says.
    """

    mount: str
    alias: str = ""
    max_ttl_s: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEntry:
    """
    One token as stored. Times are RFC 3339 texts, durations whole seconds; 0 and "" mean none.

    Attributes:
        id: the keyed hash of the token.
        parent: the id of the parent; "" for an orphan.
        num_uses: uses left; 0: unlimited; ``USES_SPENT``: the last one is going on.
        uses_granted: the number that it was made with.
        depth: ancestors above it.
        login: None for one that another token has made.
    """

    id: str
    accessor: str
    policies: tuple[str, ...]
    path: str
    display_name: str
    creation_time: int
    issue_time: str = ""
    parent: str = ""
    meta: dict[str, str] | None = None
    num_uses: int = 0
    uses_granted: int = 0
    creation_ttl_s: int = 0
    explicit_max_ttl_s: int = 0
    period_s: int = 0
    renewable: bool = False
    expire_time: str = ""
    last_renewal: str = ""
    ttl_s: int = 0
    depth: int = 0
    role: str = ""
    token_type: str = "service"  # noqa: S105 - a kind, not a secret
    login: LoginRecord | None = None

    def to_bytes(self) -> bytes:
        """Return the stored form."""
        fields = asdict(self)
        # Versions that know no logins can still read all other tokens.
        if self.login is None:
            del fields["login"]
        return json.dumps(fields).encode()

    @classmethod
    def from_bytes(cls, blob: bytes) -> TokenEntry:
        """Return the entry of a stored form. Raises StorageCorrupt: it is none of ours."""
        try:
            fields = json.loads(blob)
            fields["policies"] = tuple(fields["policies"])
            if (login := fields.get("login")) is not None:
                fields["login"] = LoginRecord(**login)
            return cls(**fields)
        except (ValueError, TypeError, KeyError) as exc:
            raise StorageCorrupt("a token entry is malformed, or of a newer version") from exc

    @property
    def expires_at(self) -> datetime | None:
        """When it ends; None: never."""
        return parse_timestamp(self.expire_time) if self.expire_time else None

    def ttl_left_s(self, now: datetime) -> int:
        """Return the whole seconds left (now counts to the nearest one); 0: there is no end."""
        ends = self.expires_at
        if ends is None:
            return 0
        nearest = (now + timedelta(milliseconds=500)).replace(microsecond=0)
        return max(0, int((ends - nearest).total_seconds()))


# --- entries in a transaction ---------------------------------------------------------------------


def new_salt(random_bytes: Callable[[int], bytes]) -> bytes:
    """Return the key of the hashes, made once at initialisation."""
    return random_bytes(_SALT_BYTES)


def put_salt(transaction: BarrierTransaction, salt: bytes) -> None:
    """Buffer the salt into the transaction of initialisation (keys are full ones)."""
    transaction.put(names.TOKEN_SALT, salt)


def put_entry(transaction: BarrierTransaction, entry: TokenEntry, salt: bytes) -> None:
    """Buffer an entry and its indexes; keys are relative to ``sys/token/``."""
    transaction.put("id/" + entry.id, entry.to_bytes())
    index = {"token_id": entry.id, "accessor": entry.accessor}
    transaction.put("accessor/" + hash_accessor(salt, entry.accessor), json.dumps(index).encode())
    if entry.parent:
        transaction.put(f"parent/{entry.parent}/{entry.id}", b"{}")


def delete_entry(transaction: BarrierTransaction, entry: TokenEntry, salt: bytes) -> None:
    transaction.delete("id/" + entry.id)
    transaction.delete("accessor/" + hash_accessor(salt, entry.accessor))
    if entry.parent:
        transaction.delete(f"parent/{entry.parent}/{entry.id}")


def make_root_token(
    transaction: BarrierTransaction,
    *,
    salt: bytes,
    random_bytes: Callable[[int], bytes],
    now: datetime,
) -> str:
    """Buffer a root token that never ends (keys are full ones) and return it."""
    token = SERVICE_PREFIX + random_text(random_bytes, TOKEN_LENGTH)
    entry = TokenEntry(
        id=hash_token(salt, token),
        accessor=random_text(random_bytes, TOKEN_LENGTH),
        policies=("root",),
        path="auth/token/root",
        display_name="root",
        creation_time=int(now.timestamp()),
    )
    put_entry(transaction.view(TOKENS_PREFIX), entry, salt)
    return token


def stamp(
    template: TokenEntry,
    *,
    token_id: str,
    random_bytes: Callable[[int], bytes],
    now: datetime,
    ttl_s: int,
) -> TokenEntry:
    """Return the template with its name, accessor and times filled in."""
    ends = format_timestamp(now + timedelta(seconds=ttl_s)) if ttl_s else ""
    return replace(
        template,
        id=token_id,
        accessor=random_text(random_bytes, TOKEN_LENGTH),
        creation_time=int(now.timestamp()),
        issue_time=format_timestamp(now),
        creation_ttl_s=ttl_s,
        ttl_s=ttl_s,
        expire_time=ends,
    )


# --- names ----------------------------------------------------------------------------------------


def hash_token(salt: bytes, token: str) -> str:
    """Return the storage name of a token."""
    text = token.encode("utf-8", "surrogatepass")
    if token.startswith(SERVICE_PREFIX):
        return "h" + hmac.new(salt, text, hashlib.sha256).hexdigest()
    return hashlib.sha1(salt + text, usedforsecurity=False).hexdigest()


def hash_accessor(salt: bytes, accessor: str) -> str:
    """Return the storage name of an accessor; never equal to that of a token."""
    text = b"accessor\0" + accessor.encode("utf-8", "surrogatepass")
    return hmac.new(salt, text, hashlib.sha256).hexdigest()


def random_text(random_bytes: Callable[[int], bytes], length: int) -> str:
    """Return letters and digits, each equally likely."""
    # Bytes from the largest multiple of the alphabet's size on would favour its beginning.
    limit = 256 - 256 % len(_ALPHABET)
    text = ""
    while len(text) < length:
        text += "".join(_ALPHABET[b % len(_ALPHABET)] for b in random_bytes(length) if b < limit)
    return text[:length]
