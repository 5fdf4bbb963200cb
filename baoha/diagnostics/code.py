"""
Diagnostic codes, and findings: what is wrong, where, how bad, why it matters and how to mend it.

Rules of this file. A code is for ever: its number and meaning never change; words may get better.
Pure. There is one row (`Code`) for each code, in `codes/`, with all that is said of it and all that
steers how it is looked for; nothing about a code stands anywhere else.

Theory of operation. Whatever finds a thing (a check of `baoha diagnose`, the configuration, the
server) takes the row by its name and makes a `Finding` of it with `Code.at`. A row is one object:
codes are compared by identity, and only what is printed or stored has their text (`Code.id`).

Source: docs/spec/cluster-cli.md section 6.2.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass
from typing import Final


class Severity(enum.StrEnum):
    """How bad, from the least to the worst; the value is the word in JSON."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


# Words of people and of tables; a sign of its own, so that colour is never needed.
SEVERITY_WORDS: Final = {Severity.INFO: "INFO", Severity.WARNING: "WARN", Severity.ERROR: "FAIL"}


class Area(enum.StrEnum):
    """A command of `baoha diagnose` that looks for some codes only ("all" looks for each)."""

    ADDRESSES = "addresses"
    FORWARDING = "forwarding"
    TLS = "tls"
    LB = "lb"
    CLOCK = "clock"
    CONFIG = "config"


class Seen(enum.StrEnum):
    """A kind of evidence, by how it is gathered."""

    LOOK = "look"  # what a node says of itself: sys/seal-status, sys/leader, sys/health
    PROBE = "probe"  # a request that a standby should forward
    PROBE_ACTIVE = "probe active"  # the same, sent to the active node
    NAMES = "names"  # what host names lead to
    ADDRESSES = "addresses"  # ports, advertised addresses and redirects, tried from here
    TLS = "tls"  # certificates and TLS of every address
    VIA = "via"  # many connections through a load balancer
    MEMBERS = "members"  # lists that a token opens
    FILE = "file"  # configuration files
    SERVER = "server"  # a node that finds it itself: in its log, its status, or on its way out
    PERSON = "person"  # nothing that a program can see for certain


@dataclass(frozen=True, eq=False)
class Code:
    """
    One diagnostic code.

    Attributes:
        id: such as BH-401.
        severity: usual severity.
        title: a few words.
        symptom: what people report; "" where they notice nothing.
        why: why it matters.
        fix: what to do.
        areas: the commands that look for it, besides `diagnose all`.
        seen_in: kinds of evidence; any of them shows it.
        at_start: severity where only the text of one file is known; None: the usual one.
        may_be_election: an election, or a node that just changes its role, shows it for a moment
            too: it is asked again before it counts.
        on_request: true of a healthy cluster too, and shown only when asked for.
        explains: ids of what follows from it at the same place.
        explains_everywhere: ids of what follows from it anywhere: it is the whole cluster's.
    """

    id: str
    severity: Severity
    title: str
    _: KW_ONLY
    symptom: str = ""
    why: str
    fix: str
    areas: frozenset[Area] = frozenset()
    seen_in: frozenset[Seen]
    at_start: Severity | None = None
    may_be_election: bool = False
    on_request: bool = False
    explains: tuple[str, ...] = ()
    explains_everywhere: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.id

    @property
    def hundred(self) -> str:
        """The digit of its group."""
        return self.id[3]

    @property
    def needs_token(self) -> bool:
        """Whether nothing can be said without a token."""
        return self.seen_in == {Seen.MEMBERS}

    @property
    def is_by_hand(self) -> bool:
        """Whether no probe can see it."""
        return self.seen_in <= {Seen.SERVER, Seen.PERSON}

    @property
    def found_without_probes(self) -> str:
        """Who finds what no probe can see."""
        if Seen.SERVER in self.seen_in:
            return "the node itself, in its log or `sys/ha-status`; no probe can see it"
        return "people; no probe can see it"

    def at(
        self,
        node: str,
        text: str,
        *,
        severity: Severity | None = None,
        cause: Code | None = None,
        detail: str = "",
        remedy: str = "",
        about: tuple[str, ...] = (),
        file: str = "",
        line: int = 0,
    ) -> Finding:
        """Return a finding at a node ("" for the cluster), with the usual severity unless given."""
        return Finding(
            code=self,
            text=text,
            node=node,
            severity=severity or self.severity,
            cause=cause,
            detail=detail,
            remedy=remedy,
            about=about,
            file=file,
            line=line,
        )

    def sentence(self, text: str) -> str:
        """Return what a node says of itself: the code, then the text."""
        return f"{self.id} {text}"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """
    One thing found.

    Attributes:
        code: its row.
        text: what was seen, safe to print.
        node: label of the node (or pair, "b -> a") it was found at; "" for the cluster.
        severity: of this case.
        cause: the code of what explains it, or None.
        detail: why it is so in this case; "" leaves the row's words alone.
        remedy: what to do in this case; "" takes the row's.
        about: labels and addresses it is about; the node itself counts always.
        file, line: where in a configuration, "" and 0 elsewhere.
    """

    code: Code
    text: str
    node: str = ""
    severity: Severity
    cause: Code | None = None
    detail: str = ""
    remedy: str = ""
    about: tuple[str, ...] = ()
    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        return f"{self.text} ({self.code}): {self.fix}"

    @property
    def why(self) -> str:
        """Why it matters, what was seen first."""
        return self.detail or self.code.why

    @property
    def fix(self) -> str:
        """What to do."""
        return self.remedy or (self.cause or self.code).fix

    @property
    def key(self) -> str:
        """What a baseline remembers: code and place, no numbers that change."""
        return f"{self.code} {self.node or self.file or 'cluster'}"

    def as_data(self) -> dict[str, object]:
        """Return the JSON form."""
        return {
            "code": self.code.id,
            "severity": self.severity.value,
            "node": self.node or None,
            "title": self.code.title,
            "text": self.text,
            "cause": self.cause.id if self.cause else None,
            "why": self.why,
            "fix": self.fix,
            "file": self.file or None,
            "line": self.line or None,
        }


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Put the worst first, then by code and place."""
    severities = list(Severity)[::-1]
    return sorted(
        findings, key=lambda item: (severities.index(item.severity), item.code.id, item.node)
    )
