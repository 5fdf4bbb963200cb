"""
The policies of this cluster: stored texts, and the ACLs made of them.

Rules of this file:

1. A cached ACL is never older than the last policy write: every write moves the generation on, and
   what was read under an older generation is used once and not kept.
2. "root" has no text and cannot be changed; what it allows is not written anywhere.

Source: OpenBao 2.7.2 as recorded (tests/conformance/recordings/policy-capabilities.json) and
measured.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from baoha import names
from baoha.core.access.policy_rules import TEXT_CHARS_MAX, RuleCache, make_acl
from baoha.core.keys.barrier import Barrier, BarrierTransaction
from baoha.errors import InvalidRequest
from baoha.sansio.durations import format_timestamp, parse_timestamp
from baoha.sansio.policy import ACL, ROOT_POLICY, Rule

DEFAULT_POLICY: Final = "default"
# "response-wrapping" is reserved for the tokens that wrap responses.
_IMMUTABLE: Final = frozenset({ROOT_POLICY, "response-wrapping"})
# Any policy list of a token leads to one ACL; more distinct lists than this are rebuilt when used.
_ACLS_MAX: Final = 4096
_ACL_RULES_MAX: Final = 200_000  # of all of them
_CHARS_A_RULE: Final = 64  # of the names in a list: they take memory, too
_BASE64_CHARS_MAX: Final = TEXT_CHARS_MAX * 4 * 4 // 3 + 4  # a character is four bytes at most

# What every token may do about itself. Source: the grants of OpenBao's own default policy, all of
# them and in its order; the words are ours.
DEFAULT_POLICY_TEXT: Final = """
# A token may look at itself, renew itself and end itself.
path "auth/token/lookup-self" {
    capabilities = ["read"]
}
path "auth/token/renew-self" {
    capabilities = ["update"]
}
path "auth/token/revoke-self" {
    capabilities = ["update"]
}

# It may ask what it is allowed to do.
path "sys/capabilities-self" {
    capabilities = ["update"]
}

# It may look at the entity that it belongs to.
path "identity/entity/id/{{identity.entity.id}}" {
    capabilities = ["read"]
}
path "identity/entity/name/{{identity.entity.name}}" {
    capabilities = ["read"]
}

# User interfaces may ask what all its policies allow together.
path "sys/internal/ui/resultant-acl" {
    capabilities = ["read"]
}

# It may renew and look up a lease whose id it knows.
path "sys/leases/renew" {
    capabilities = ["update"]
}
path "sys/leases/lookup" {
    capabilities = ["update"]
}

# It has a private store of its own.
path "cubbyhole/*" {
    capabilities = ["create", "read", "update", "delete", "list"]
}

# It may wrap values, and look into or open a wrapping token that it holds.
path "sys/wrapping/wrap" {
    capabilities = ["update"]
}
path "sys/wrapping/lookup" {
    capabilities = ["update"]
}
path "sys/wrapping/unwrap" {
    capabilities = ["update"]
}

# It may use the hash tool.
path "sys/tools/hash" {
    capabilities = ["update"]
}
path "sys/tools/hash/*" {
    capabilities = ["update"]
}

# It may ask the authorization endpoint of an OIDC provider.
path "identity/oidc/provider/+/authorize" {
    capabilities = ["read", "update"]
}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One stored policy. ``version`` counts its writes."""

    name: str
    text: str
    version: int
    modified: str
    cas_required: bool = False
    expiration: str = ""

    def to_bytes(self) -> bytes:
        """Return the stored form."""
        return json.dumps(
            {
                "raw": self.text,
                "version": self.version,
                "modified": self.modified,
                "cas_required": self.cas_required,
                "expiration": self.expiration,
            }
        ).encode()

    @classmethod
    def from_bytes(cls, name: str, blob: bytes) -> Policy:
        """Return the policy of a stored form."""
        fields = json.loads(blob)
        return cls(
            name=name,
            text=fields["raw"],
            version=fields["version"],
            modified=fields["modified"],
            cas_required=fields["cas_required"],
            expiration=fields["expiration"],
        )

    def is_expired(self, at: datetime) -> bool:
        """Return whether the policy has ended: it grants nothing any more."""
        return bool(self.expiration) and parse_timestamp(self.expiration) <= at


@dataclass(frozen=True, slots=True)
class _CachedACL:
    acl: ACL
    valid_until: datetime | None
    rules: int = 0


class PolicyStore:
    """Policies by name, and ACLs by list of names. Safe for concurrent use by many tasks."""

    def __init__(self, barrier: Barrier, *, now: Callable[[], datetime]) -> None:
        self._storage = barrier.view(names.POLICY_PREFIX)
        self._now = now
        self._rules = RuleCache()
        self._acls: dict[tuple[str, ...], _CachedACL] = {}
        self._acl_rules = 0
        self._generation = 0

    def forget(self) -> None:
        """Drop the cached ACLs: another node may have written since."""
        self._generation += 1
        self._acls.clear()
        self._acl_rules = 0

    def wipe(self) -> None:
        """Drop what was read from the store altogether."""
        self.forget()
        self._rules.forget()

    async def acl(self, policies: Iterable[str]) -> ACL:
        """Return what these policies allow together; one that does not exist allows nothing."""
        key = tuple(policies)
        cached = self._acls.get(key)
        if cached is not None and (cached.valid_until is None or self._now() < cached.valid_until):
            return cached.acl
        generation = self._generation
        built = await self._build_acl(key, self._now())
        if generation == self._generation:
            self._keep(key, built)
        return built.acl

    def _keep(self, key: tuple[str, ...], built: _CachedACL) -> None:
        while self._acls and (
            len(self._acls) >= _ACLS_MAX or self._acl_rules + built.rules > _ACL_RULES_MAX
        ):
            self._drop(next(iter(self._acls)))
        self._drop(key)
        self._acls[key] = built
        self._acl_rules += built.rules

    def _drop(self, key: tuple[str, ...]) -> None:
        if (dropped := self._acls.pop(key, None)) is not None:
            self._acl_rules -= dropped.rules

    async def _build_acl(self, policies: tuple[str, ...], now: datetime) -> _CachedACL:
        if ROOT_POLICY in policies:
            return _CachedACL(ACL((), is_root=True), None)
        rules: list[Rule] = []
        valid_until: datetime | None = None
        for name in policies:
            policy = await self.read(name)
            if policy is None or policy.is_expired(now):
                continue
            if policy.expiration:
                ends = parse_timestamp(policy.expiration)
                valid_until = ends if valid_until is None else min(valid_until, ends)
            rules.extend(await self._rules.rules(policy.text))
        names_weight = sum(map(len, policies)) // _CHARS_A_RULE
        return _CachedACL(await make_acl(rules), valid_until, len(rules) + names_weight)

    async def read(self, name: str) -> Policy | None:
        """Return a policy as stored; "root" is there and empty."""
        if name == ROOT_POLICY:
            return Policy(name=name, text="", version=0, modified="")
        blob = await self._storage.get(name) if _is_name(name) else None
        return None if blob is None else Policy.from_bytes(name, blob)

    async def names(self) -> list[str]:
        """Return all names, folders after plain ones, "root" last."""
        found: list[str] = []
        folders = [""]
        while folders:
            folder = folders.pop()
            for child in await self._storage.list(folder):
                (folders if child.endswith("/") else found).append(folder + child)
        return [*found, ROOT_POLICY]

    async def write(
        self,
        name: str,
        text: str,
        *,
        cas: int | None = None,
        cas_required: bool | None = None,
        expiration: datetime | None = None,
    ) -> None:
        """
        Store a policy.

        Args:
            name: in lower case.
            text: HCL or JSON, plain or in base64.
            cas: the version it must have now; -1: it must not exist.
            expiration: when it ends; None: never.

        Raises:
            InvalidRequest: nothing was written.
        """
        if name in _IMMUTABLE:
            raise InvalidRequest(f'cannot update "{name}" policy')
        if len(text) <= _BASE64_CHARS_MAX:
            text = _plain_text(text)
        await self._rules.accept(text)
        now = self._now()

        async def body(transaction: BarrierTransaction) -> None:
            blob = await transaction.get(name)
            old = None if blob is None else Policy.from_bytes(name, blob)
            _check_cas(old, cas)
            was_required = old is not None and old.cas_required
            policy = Policy(
                name=name,
                text=text,
                version=1 if old is None else old.version + 1,
                modified=format_timestamp(now),
                cas_required=was_required if cas_required is None else cas_required,
                expiration="" if expiration is None else format_timestamp(expiration),
            )
            transaction.put(name, policy.to_bytes())

        try:
            await self._storage.run_transaction(body)
        finally:
            # Also when the outcome is unknown: the next reader asks the store.
            self.forget()

    async def delete(self, name: str) -> None:
        """Delete a policy; one that does not exist is no error."""
        if name in _IMMUTABLE:
            raise InvalidRequest(f'cannot delete "{name}" policy')
        if name == DEFAULT_POLICY:
            raise InvalidRequest("cannot delete default policy")
        if not _is_name(name):
            return
        try:
            await self._storage.delete(name)
        finally:
            self.forget()


def _is_name(name: str) -> bool:
    return bool(name) and not name.startswith("/") and not name.endswith("/")


def put_default_policy(transaction: BarrierTransaction, *, now: datetime) -> None:
    """Buffer the policy "default" into the transaction of initialisation."""
    policy = Policy(
        name=DEFAULT_POLICY, text=DEFAULT_POLICY_TEXT, version=1, modified=format_timestamp(now)
    )
    transaction.put(names.POLICY_PREFIX + DEFAULT_POLICY, policy.to_bytes())


def describe_policy(policy: Policy, *, text_key: str = "policy") -> dict[str, Any]:
    """Return the ``data`` object of a policy read."""
    described: dict[str, Any] = {
        "allow_slashes_in_identity_templates": False,
        "allow_wildcards_in_identity_templates": False,
        "cas_required": policy.cas_required,
        "name": policy.name,
        text_key: policy.text,
        "version": policy.version,
    }
    if policy.modified:
        described["modified"] = policy.modified
    if policy.expiration:
        described["expiration"] = policy.expiration
    return described


def _plain_text(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError):
        return text


def _check_cas(old: Policy | None, cas: int | None) -> None:
    version = 0 if old is None else old.version
    if cas is None:
        if old is not None and old.cas_required:
            raise InvalidRequest("check-and-set parameter required for this call")
    elif cas == -1:
        if old is not None:
            raise InvalidRequest("check-and-set parameter set to -1 on existing entry")
    elif cas != version:
        raise InvalidRequest(
            f"check-and-set parameter {cas} did not match the current version {version}"
        )
