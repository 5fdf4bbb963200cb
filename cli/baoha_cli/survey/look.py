"""
What one node answered, as plain records.

Rules of this file. It is pure: nothing here asks anybody. Unknown is None, "" or an empty tuple,
never a guess. Times of day are seconds since the epoch by this machine's clock, durations seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from baoha_cli.client.address import Endpoint
from baoha_cli.client.answer import as_bool
from baoha_cli.failures import ErrorKind
from baoha_cli.survey.nodes import NodeReport, Role

REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True)
class Reply:
    """
    One request and what came back.

    Args:
        status: 0 when nothing usable came.
        kind: why not; None when there is a status.
        error: the words for that.
        location: header, as sent.
        media_type: of the body, without parameters.
        body: the JSON object, or {}.
        errors: the server's list of errors.
        took_s: from the start to the end.
        ended_at: time of day here when the answer was complete.
        date_s: the Date header as seconds since the epoch.
        features: lower-case names of headers worth knowing.
    """

    status: int = 0
    kind: ErrorKind | None = None
    error: str = ""
    location: str = ""
    media_type: str = ""
    body: Mapping[str, object] = field(default_factory=dict)
    errors: tuple[str, ...] = ()
    took_s: float = 0.0
    ended_at: float = 0.0
    date_s: int | None = None
    features: frozenset[str] = frozenset()

    @property
    def redirects(self) -> bool:
        """Whether it is a redirect."""
        return self.status in REDIRECTS

    @property
    def timed_out(self) -> bool:
        """Whether no answer came in time."""
        return self.kind is ErrorKind.TIMEOUT

    @property
    def words(self) -> str:
        """The errors on one line."""
        return "; ".join(self.errors) or self.error or f"status {self.status}"

    def mentions(self, *texts: str) -> bool:
        """Tell whether an error holds one of the texts (lower case)."""
        lowered = self.words.lower()
        return any(text in lowered for text in texts)


NOT_ASKED = Reply()


@dataclass(frozen=True)
class NodeLook:
    """
    One node in one round: the answers to the tokenless requests.

    Args:
        endpoint: the address asked.
        label: its short name.
        seal: sys/seal-status; asked first, the rest only when it answered.
        leader: sys/leader.
        health: sys/health, without a query.
        plain: sys/ha-status (probe P1).
        bare: the same with X-Vault-No-Request-Forwarding (probe P2).
        tls_version: "" without TLS.
    """

    endpoint: Endpoint
    label: str
    seal: Reply
    leader: Reply = NOT_ASKED
    health: Reply = NOT_ASKED
    plain: Reply = NOT_ASKED
    bare: Reply = NOT_ASKED
    tls_version: str = ""

    @cached_property
    def report(self) -> NodeReport:
        """The same node as `baoha status` sees it."""
        seal = dict(self.seal.body) if self.is_api else {}
        kind, error = self.seal.kind, self.seal.error
        if kind is None and not seal:
            kind, error = ErrorKind.HTTP, self.seal.words
        leader = dict(self.leader.body) if self.leader.status == 200 else {}
        ha_enabled = as_bool(leader.get("ha_enabled"))
        if self.leader.status == 503 and seal.get("sealed") is True:
            ha_enabled = True
        return NodeReport(
            self.endpoint,
            self.label,
            error_kind=kind,
            error=error,
            seal=seal,
            leader=leader,
            health=dict(self.health.body),
            ha_enabled=ha_enabled,
            latency_ms=round(self.seal.took_s * 1000),
            tls_version=self.tls_version,
        )

    @property
    def is_api(self) -> bool:
        """Whether it answers as a node does."""
        return self.seal.status == 200 and as_bool(self.seal.body.get("sealed")) is not None

    @property
    def role(self) -> Role:
        """What it does, by its own words."""
        return self.report.role

    @property
    def replies(self) -> tuple[Reply, ...]:
        """All answers."""
        return (self.seal, self.leader, self.health, self.plain, self.bare)

    @property
    def knows_no_leader(self) -> bool:
        """Whether it is an unsealed standby that names no leader."""
        return self.role is Role.STANDBY and not self.report.leader_key
