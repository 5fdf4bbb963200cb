"""
`baoha cluster history`: which leaders a client can know of.

Rule of this file: nothing is made up. A server tells who is active now and since when; no server we
know (baoha, OpenBao, Vault) keeps a list of those before, so that part is null and the exit code
says that the question was not answered.

Source: docs/spec/openbao-ha.md section 5.2, docs/spec/cluster-cli.md section 3.2.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from baoha_cli.exits import Verdict
from baoha_cli.output.documents import Document
from baoha_cli.output.gotext import duration_text, plain_table
from baoha_cli.text import one_line

if TYPE_CHECKING:
    from baoha_cli.shell.context import Cli
    from baoha_cli.survey.nodes import ClusterReport, NodeReport

_NOT_KEPT: Final = "leaders before that are not known: servers keep no list of them"
_HINT: Final = (
    "hint: record changes from now on with: baoha cluster watch -o ndjson; the nodes' logs tell "
    "the past"
)
_HEADER: Final = ("LEADER", "ADDRESS", "SINCE", "FOR")
_DASH: Final = "–"


async def show_history(cli: Cli) -> Verdict:
    """Print the leaders that are known, and say that there may have been others."""
    from baoha_cli.diagnose.judge import judge_round
    from baoha_cli.survey.ask import ROLES_ONLY
    from baoha_cli.survey.round import look_round

    judged = judge_round(await look_round(cli, options=ROLES_ONLY))
    known = tenures(judged.report, datetime.now(UTC))
    rows = [_HEADER, *(_row(tenure) for tenure in known)]
    cli.emit(
        Document(
            {"schema": "baoha.history/v1", "known": known, "earlier": None},
            lambda _: plain_table(rows, gap=2),
            rows=rows,
            names=[str(tenure["addr"]) for tenure in known],
            records=known,
        )
    )
    if not known:
        cli.out.error("no active node is known among the addresses given")
    cli.out.error(f"{_NOT_KEPT}\n{_HINT}")
    return Verdict.NO if known or judged.verdict is Verdict.OK else judged.verdict


def tenures(report: ClusterReport, now: datetime) -> list[dict[str, object]]:
    """
    Return the times as leader that the nodes tell of, the youngest first.

    Args:
        report: the nodes' own words.
        now: this machine's clock; a node's start lies before it.
    """
    found = [_tenure(node, now) for node in report.actives]
    given = {node.leader_key for node in report.actives}
    named = {
        node.leader_key: node.leader_address
        for node in report.standbys
        if node.leader_key and node.leader_key not in given and not report.named_leader(node)
    }
    found += [
        # Named by a standby, but not among the addresses: only the leader itself knows since when.
        {"node": None, "addr": address or key, "since": None, "for_s": None}
        for key, address in sorted(named.items())
    ]
    return sorted(found, key=lambda tenure: str(tenure["since"] or ""), reverse=True)


def _tenure(node: NodeReport, now: datetime) -> dict[str, object]:
    since = _moment(node.active_time)
    elapsed_s = None if since is None else max(0, round((now - since).total_seconds()))
    return {
        "node": node.label,
        "addr": node.leader_address or node.endpoint.url,
        "since": node.active_time or None,
        "for_s": elapsed_s,
    }


def _row(tenure: dict[str, object]) -> tuple[str, ...]:
    elapsed_s = tenure["for_s"]
    lasted = duration_text(elapsed_s) if isinstance(elapsed_s, int) else _DASH
    cells = [str(tenure[name] or _DASH) for name in ("node", "addr", "since")]
    return (*(one_line(cell) for cell in cells), lasted)


def _moment(text: str) -> datetime | None:
    """Read an RFC 3339 time with up to nine digits of a second; None when it is none."""
    try:
        moment = datetime.fromisoformat(re.sub(r"(\.\d{1,6})\d*", r"\1", text))
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
