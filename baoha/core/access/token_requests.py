"""
What a client may ask of a new token, and what it gets.

Rule of this file: it is pure; the caller's token, its sudo and the time are arguments.

Source: OpenBao 2.7.2 as recorded (tests/conformance/recordings/token.json) and measured; the order
of the checks is the order in which OpenBao reports faults.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from baoha.core.access.policies import DEFAULT_POLICY
from baoha.core.access.token_entry import SERVICE_PREFIX, TokenEntry
from baoha.core.framework.fields import FieldKind
from baoha.core.framework.ttl import TTLs
from baoha.errors import InvalidRequest
from baoha.sansio.durations import (
    SECOND_NS,
    DurationError,
    format_duration_short,
    parse_duration_ns,
)
from baoha.sansio.policy import ROOT_POLICY

ROOT_PATH: Final = "auth/token/root"  # of the token that initialisation makes
_POLICIES_MAX: Final = 1024
_DISPLAY_NAME_CHARS_MAX: Final = 4096
CREATE_FIELDS: Final = {
    "id": FieldKind.STRING,
    "policies": FieldKind.LIST,
    "ttl": FieldKind.STRING,
    "lease": FieldKind.STRING,
    "explicit_max_ttl": FieldKind.STRING,
    "period": FieldKind.STRING,
    "num_uses": FieldKind.INT,
    "renewable": FieldKind.BOOL,
    "no_parent": FieldKind.BOOL,
    "no_default_policy": FieldKind.BOOL,
    "display_name": FieldKind.STRING,
    "meta": FieldKind.PAIRS,
    "type": FieldKind.STRING,
    "entity_alias": FieldKind.STRING,
}
_SHA1_WARNING: Final = (
    "Supplying a custom ID for the token uses the weaker SHA1 hashing instead of the more secure "
    "SHA2-256 HMAC for token obfuscation. SHA1 hashed tokens on the wire leads to less secure "
    "lookups."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """The wishes of a client, converted. Durations are seconds; 0: not asked for."""

    id: str = field(default="", repr=False)
    policies: tuple[str, ...] = ()
    ttl_s: int = 0
    explicit_max_ttl_s: int = 0
    period_s: int = 0
    num_uses: int = 0
    renewable: bool = True
    no_parent: bool = False
    no_default_policy: bool = False
    display_name: str = ""
    meta: dict[str, str] | None = None

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> TokenRequest:
        """
        Return the wishes in the fields of a request.

        Raises:
            InvalidRequest: one of them cannot be granted to anybody.
        """
        if fields.get("num_uses", 0) < 0:
            raise InvalidRequest("number of uses cannot be negative")
        _require_service_type(fields.get("type", ""))
        if fields.get("entity_alias"):
            raise InvalidRequest("'entity_alias' is only allowed in combination with token role")
        _require_usable_id(fields.get("id", ""))
        if len(fields.get("display_name", "")) > _DISPLAY_NAME_CHARS_MAX:
            raise InvalidRequest(
                f"'display_name' is longer than {_DISPLAY_NAME_CHARS_MAX} characters"
            )
        return cls(
            id=fields.get("id", ""),
            policies=tuple(fields.get("policies", ())),
            explicit_max_ttl_s=_seconds(fields, "explicit_max_ttl"),
            ttl_s=_seconds(fields, "ttl") or _seconds(fields, "lease"),
            period_s=_seconds(fields, "period"),
            num_uses=fields.get("num_uses", 0),
            renewable=fields.get("renewable", True),
            no_parent=fields.get("no_parent", False),
            no_default_policy=fields.get("no_default_policy", False),
            display_name=fields.get("display_name", ""),
            meta=fields.get("meta") or None,
        )


def _require_service_type(token_type: str) -> None:
    if token_type == "batch":  # noqa: S105 - a kind, not a secret
        raise InvalidRequest("batch tokens are not supported by this server")
    if token_type not in ("", "service"):
        raise InvalidRequest("invalid 'token_type' value")


def _require_usable_id(token: str) -> None:
    if token.startswith(SERVICE_PREFIX):
        raise InvalidRequest("custom token ID cannot have the 's.' prefix")
    if "." in token:
        raise InvalidRequest("custom token ID cannot have a '.' in the value")


def _seconds(fields: Mapping[str, Any], name: str) -> int:
    try:
        duration_ns = parse_duration_ns(fields.get(name, ""))
    except DurationError as exc:
        raise InvalidRequest(str(exc)) from exc
    if duration_ns < 0:
        raise InvalidRequest(f"{name} must be positive")
    # Less than a second is not "none": that would be a token without an end.
    return max(1, duration_ns // SECOND_NS) if duration_ns else 0


@dataclass(slots=True)
class NewToken:
    """A token to be made: everything but its name and times."""

    entry: TokenEntry
    ttl_s: int
    warnings: list[str]


def new_token_template(
    asked: TokenRequest,
    parent: TokenEntry,
    *,
    path: str,
    has_sudo: bool,
    is_orphan: bool,
    ttl: TTLs,
    now: datetime,
) -> NewToken:
    """
    Return the token that a client gets.

    Args:
        path: the full path that was used.
        has_sudo: whether the caller may use sudo on it.
        is_orphan: whether the path itself makes orphans.
        ttl: what a token that asks for nothing gets, and the most that one gets.

    Raises:
        InvalidRequest: it asks for more than the caller may give.
    """
    if parent.num_uses != 0:
        raise InvalidRequest("restricted use token cannot generate child tokens")
    _require_privileges(asked, has_sudo=has_sudo)
    policies = _granted_policies(asked, parent, has_sudo=has_sudo)
    warnings = [_SHA1_WARNING] if asked.id else []
    ttl_s = _granted_ttl(asked, parent, policies, ttl, warnings)
    entry = TokenEntry(
        id="",
        accessor="",
        policies=policies,
        path=path,
        display_name=_display_name(asked.display_name),
        creation_time=int(now.timestamp()),
        parent="" if is_orphan or asked.no_parent else parent.id,
        meta=asked.meta,
        num_uses=asked.num_uses,
        uses_granted=asked.num_uses,
        explicit_max_ttl_s=asked.explicit_max_ttl_s,
        period_s=asked.period_s,
        renewable=asked.renewable and ttl_s > 0,
    )
    return NewToken(entry, ttl_s, warnings)


def _require_privileges(asked: TokenRequest, *, has_sudo: bool) -> None:
    if has_sudo:
        return
    for is_asked, what in (
        (bool(asked.id), "specify token id"),
        (asked.no_parent, "create orphan token"),
        (asked.period_s > 0, "create periodic token"),
    ):
        if is_asked:
            raise InvalidRequest(f"root or sudo privileges required to {what}")


def _granted_policies(
    asked: TokenRequest, parent: TokenEntry, *, has_sudo: bool
) -> tuple[str, ...]:
    wanted = sanitize_policies(asked.policies)
    require_few_policies(wanted)
    is_root = ROOT_POLICY in parent.policies
    if not wanted:
        # The parent's own, exactly.
        inherited = set(parent.policies)
        return tuple(sorted(inherited - {DEFAULT_POLICY if asked.no_default_policy else ""}))
    if ROOT_POLICY in wanted:
        if not is_root and has_sudo:
            raise InvalidRequest("root tokens may not be created without parent token being root")
        if not is_root:
            raise InvalidRequest("child policies must be subset of parent")
        return (ROOT_POLICY,)
    if not (has_sudo or is_root) and not wanted <= set(parent.policies):
        raise InvalidRequest("child policies must be subset of parent")
    may_add_default = has_sudo or is_root or DEFAULT_POLICY in parent.policies
    if asked.no_default_policy:
        wanted -= {DEFAULT_POLICY}
    elif may_add_default:
        wanted |= {DEFAULT_POLICY}
    return tuple(sorted(wanted))


def require_few_policies(policies: Collection[str]) -> None:
    """Raise InvalidRequest if these are more than a token may have."""
    if len(policies) > _POLICIES_MAX:
        raise InvalidRequest(f"a token cannot have more than {_POLICIES_MAX} policies")


def sanitize_policies(policies: Iterable[str]) -> set[str]:
    """Return the names as they are stored: lower case, no blanks, no empty ones."""
    return {name.strip().lower() for name in policies} - {""}


def _granted_ttl(
    asked: TokenRequest,
    parent: TokenEntry,
    policies: tuple[str, ...],
    ttl: TTLs,
    warnings: list[str],
) -> int:
    explicit_s = asked.explicit_max_ttl_s
    most = min(explicit_s or ttl.max_s, ttl.max_s)
    if asked.period_s:
        return capped_ttl(asked.period_s, most, warnings, what="period")
    if ROOT_POLICY not in policies:
        return capped_ttl(asked.ttl_s or ttl.default_s, most, warnings)
    if asked.ttl_s:
        return capped_ttl(asked.ttl_s, most, warnings)
    if not explicit_s and parent.expire_time:
        raise InvalidRequest("expiring root tokens cannot create non-expiring root tokens")
    return explicit_s


def capped_ttl(wanted_s: int, most_s: int, warnings: list[str], *, what: str = "TTL") -> int:
    """Return the smaller one, and say so where it is not what was wanted."""
    if wanted_s <= most_s:
        return wanted_s
    wanted, most = (format_duration_short(s * SECOND_NS) for s in (wanted_s, most_s))
    warnings.append(
        f'{what} of "{wanted}" exceeded the effective max_ttl of "{most}"; {what} value is capped '
        "accordingly"
    )
    return most_s


def _display_name(wanted: str) -> str:
    name = re.sub(r"[^a-zA-Z0-9-]+", "-", wanted).strip("-")
    return f"token-{name}" if name else "token"
