"""What a client is told of a token that was made or renewed for it."""

from __future__ import annotations

from baoha.core.access.token_entry import TokenEntry
from baoha.core.request import Auth


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
