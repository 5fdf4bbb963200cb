"""
Logins: from what an auth method says of a client to a token, and what the client is told of it.

Rules of this file:

1. It is pure; the mount and the time are arguments.
2. No login makes a root token, whatever a method says, and none outlives what its mount allows.

Source: OpenBao: the default policy is added, the mount's path is put before the display name, and
the token has no parent.
"""

from __future__ import annotations

from datetime import datetime

from baoha.core.access.policies import DEFAULT_POLICY
from baoha.core.access.token_entry import LoginRecord, TokenEntry
from baoha.core.access.token_requests import (
    NewToken,
    capped_ttl,
    require_few_policies,
    sanitize_policies,
)
from baoha.core.framework.mount_entry import AUTH_PATH, MountEntry
from baoha.core.framework.ttl import TTLs
from baoha.core.request import Auth, Login
from baoha.errors import InvalidRequest
from baoha.sansio.policy import ROOT_POLICY


def new_login_template(
    login: Login, mount: MountEntry, *, path: str, ttl: TTLs, now: datetime
) -> NewToken:
    """
    Return the token that a client gets.

    Args:
        path: the full path that was used.
        ttl: of the mount.

    Raises:
        InvalidRequest: the method gives it more than a login may have.
    """
    policies = sanitize_policies(login.policies) | {DEFAULT_POLICY}
    if ROOT_POLICY in policies:
        raise InvalidRequest("auth methods cannot create root tokens")
    require_few_policies(policies)
    warnings: list[str] = []
    ttl_s = capped_ttl(login.ttl_s or ttl.default_s, longest_s(login, ttl), warnings)
    source = mount.full_path.removeprefix(AUTH_PATH).replace("/", "-")
    entry = TokenEntry(
        id="",
        accessor="",
        policies=tuple(sorted(policies)),
        path=path,
        display_name=(source + login.display_name).removesuffix("-"),
        creation_time=int(now.timestamp()),
        meta=dict(login.metadata) or None,
        renewable=True,
        login=LoginRecord(mount=mount.uuid, alias=login.alias, max_ttl_s=login.max_ttl_s),
    )
    return NewToken(entry, ttl_s, warnings)


def longest_s(login: Login, ttl: TTLs) -> int:
    """Return how long a token of this login may live with all renewals."""
    return min(login.max_ttl_s or ttl.max_s, ttl.max_s)


def recorded_login(entry: TokenEntry, mount: MountEntry) -> Login:
    """Return the login that a token comes from, as its method has returned it."""
    assert entry.login is not None
    source = mount.full_path.removeprefix(AUTH_PATH).replace("/", "-")
    return Login(
        policies=entry.policies,
        display_name=entry.display_name.removeprefix(source),
        alias=entry.login.alias,
        ttl_s=entry.creation_ttl_s,
        max_ttl_s=entry.login.max_ttl_s,
        metadata=entry.meta or {},
    )


def describe_auth(entry: TokenEntry, *, token: str, ttl_s: int) -> Auth:
    """Return the ``auth`` object for a token that was made or renewed."""
    policies = list(entry.policies)
    return Auth(
        client_token=token,
        accessor=entry.accessor,
        policies=policies,
        token_policies=policies,
        metadata=entry.meta,
        lease_duration=ttl_s,
        renewable=entry.renewable,
        token_type=entry.token_type,
        orphan=not entry.parent,
        num_uses=entry.uses_granted,
    )
