"""
What one node answered, as plain records.

Rules of this file. It is pure: nothing here asks anybody. Unknown is None, "" or an empty tuple,
never a guess. Times of day are seconds since the epoch by this machine's clock, durations seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from baoha_cli.client.address import Endpoint
from baoha_cli.client.answer import as_bool, as_int
from baoha_cli.failures import ErrorKind
from baoha_cli.survey.nodes import ClusterReport, Link, NodeReport, SeenRole

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

    @property
    def redirects(self) -> bool:
        """Whether it is a redirect."""
        return self.status in REDIRECTS

    @property
    def was_asked(self) -> bool:
        """Whether the request was sent at all."""
        return bool(self.status) or self.kind is not None

    @property
    def timed_out(self) -> bool:
        """Whether no answer came in time."""
        return self.kind is ErrorKind.TIMEOUT

    @property
    def words(self) -> str:
        """The errors on one line."""
        return "; ".join(self.errors) or self.error or f"status {self.status}"

    def mentions(self, *texts: str) -> bool:
        """Return whether an error holds one of the texts (lower case)."""
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
        live: sys/ha/live, which only baoha has.
        tls_version: "" without TLS.
    """

    endpoint: Endpoint
    label: str
    seal: Reply
    leader: Reply = NOT_ASKED
    health: Reply = NOT_ASKED
    plain: Reply = NOT_ASKED
    bare: Reply = NOT_ASKED
    live: Reply = NOT_ASKED
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
            # A sealed node of an HA store refuses; without HA it answers {"ha_enabled": false}.
            ha_enabled = True
        report = NodeReport(
            self.endpoint,
            self.label,
            error_kind=kind,
            error=error,
            seal=seal,
            leader=leader,
            ha_enabled=ha_enabled,
            latency_ms=round(self.seal.took_s * 1000) if self.seal.status else None,
            tls_version=self.tls_version,
        )
        skew_ms, uncertainty_ms = _skew_ms(self.health)
        return replace(
            report,
            link=_link(report.role, self.plain, self.bare),
            skew_ms=skew_ms,
            skew_uncertainty_ms=uncertainty_ms,
        )

    @property
    def is_api(self) -> bool:
        """Whether it answers as a node does."""
        return self.seal.status == 200 and as_bool(self.seal.body.get("sealed")) is not None

    @property
    def role(self) -> SeenRole:
        """What it does, by its own words."""
        return self.report.role

    @property
    def replies(self) -> tuple[Reply, ...]:
        """All answers."""
        return (self.seal, self.leader, self.health, self.plain, self.bare)

    @property
    def link(self) -> Link:
        """How it passes requests on."""
        return self.report.link

    @property
    def knows_no_leader(self) -> bool:
        """Whether it is an unsealed standby that names no leader."""
        return self.role is SeenRole.STANDBY and not self.report.leader_key


def report_of(looks: Sequence[NodeLook]) -> ClusterReport:
    """Return the nodes of one round as one report."""
    return ClusterReport(tuple(look.report for look in looks))


def link_of(plain: int, bare: int) -> Link:
    """
    Read the two-probe table for a standby.

    Args:
        plain: status of the plain probe; 0 is a time-out, -1 no answer.
        bare: status of the probe that must not be forwarded.
    """
    if plain in (307, 308):
        return Link.REDIRECT
    if plain == 403 and bare in (307, 308, 503):
        return Link.FORWARD
    if plain == 0:
        return Link.HANGS
    if plain in (500, 503):
        return Link.NONE
    return Link.UNKNOWN


def _link(role: SeenRole, plain: Reply, bare: Reply) -> Link:
    if role is SeenRole.ACTIVE:
        return Link.SELF
    if role is not SeenRole.STANDBY:
        return Link.UNKNOWN
    return link_of(0 if plain.timed_out else plain.status or -1, bare.status or -1)


def _skew_ms(health: Reply) -> tuple[int | None, int | None]:
    """Return a node's clock minus ours and the uncertainty, both in milliseconds, or None."""
    server_s = as_int(health.body.get("server_time_utc"))
    if server_s is None or not 0 < server_s < 1 << 40 or not health.ended_at:
        return None, None
    # The server cut its clock to whole seconds, somewhere between sending and receiving.
    middle_s = health.ended_at - health.took_s / 2
    ahead_s = server_s + 0.5 - middle_s
    return round(ahead_s * 1000), round((0.5 + health.took_s / 2) * 1000)
