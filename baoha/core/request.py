"""
What travels between dispatch and the engines: one logical request, one logical response.

Source: OpenBao's logical request model, reduced to what clients can see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from baoha.sansio.policy import ACL


class Operation(Enum):
    """What is asked of a path. The value is the ACL capability that it needs."""

    READ = "read"
    CREATE = "create"
    UPDATE = "update"
    PATCH = "patch"
    DELETE = "delete"
    LIST = "list"
    SCAN = "scan"
    # No engine answers these yet; they must be authenticated and refused like any other.
    HEAD = "head"
    HELP = "help"


@dataclass(frozen=True, slots=True)
class Caller:
    """
    Who asks, as dispatch found out. Engines may rely on it.

    Attributes:
        token_id: the storage name of the token (a keyed hash), never the token itself.
        acl: what its policies allow; paths are full ones.
    """

    token_id: str
    accessor: str
    display_name: str
    policies: tuple[str, ...]
    acl: ACL = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """
    One logical request.

    ``path`` is what follows "/v1/", without a leading slash. POST and PUT arrive as ``UPDATE``;
    dispatch turns them into ``CREATE`` where the engine says the thing does not exist yet.
    """

    id: str
    operation: Operation
    path: str
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    token: str = field(default="", repr=False)
    query: Mapping[str, str] = field(default_factory=dict)
    remote_addr: str = ""
    client_certificates: tuple[bytes, ...] = ()
    wrap_ttl_s: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    # Filled by dispatch: whoever was authenticated (None on unauthenticated paths), and the mount.
    caller: Caller | None = None
    mount_path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """
    What an auth method says of a client that it has recognised. Dispatch makes a token of it.

    Attributes:
        policies: of the token; the default policy is added, the root policy is refused.
        display_name: for logs; the mount's path is put before it.
        alias: whom the method knows the client as. It is kept for ``Engine.renew``.
        ttl_s: how long the token lives; 0: as the mount says.
        max_ttl_s: how long with all renewals; 0: as the mount says, which is never exceeded.
        metadata: shown to whoever looks the token up.
    """

    policies: tuple[str, ...]
    display_name: str
    alias: str = ""
    ttl_s: int = 0
    max_ttl_s: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Auth:
    """The ``auth`` object of a response: a token that was made."""

    client_token: str = field(repr=False)
    accessor: str
    policies: list[str]
    token_policies: list[str]
    metadata: dict[str, str] | None = None
    lease_duration: int = 0
    renewable: bool = False
    entity_id: str = ""
    token_type: str = "service"  # noqa: S105 - a kind, not a secret
    orphan: bool = False
    num_uses: int = 0


@dataclass(slots=True, kw_only=True)
class Response:
    """
    One logical response; the API layer wraps it into OpenBao's envelope.

    Attributes:
        data: the ``data`` object; None answers 204 where nothing else is set.
        login: of an auth method: dispatch makes a token and puts it into ``auth``.
        top_level: ``data`` is repeated at the top level too (the sys endpoints' habit).
        status: overrides the status that the API layer would choose.
        raw: a body that is answered as it is, without an envelope.
    """

    data: dict[str, Any] | None = field(default=None, repr=False)
    auth: Auth | None = None
    login: Login | None = None
    warnings: list[str] = field(default_factory=list)
    lease_id: str = ""
    lease_duration: int = 0
    renewable: bool = False
    top_level: bool = False
    mount_type: str = ""
    status: int | None = None
    raw: bytes | None = field(default=None, repr=False)
    raw_content_type: str = "application/json"
