"""
`baoha cluster`: the nodes from every point of view.

Source: docs/spec/cluster-cli.md section 3.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from baoha_cli.client.answer import as_text
from baoha_cli.commands.operator import member_nodes
from baoha_cli.exits import Profile, Verdict
from baoha_cli.failures import CommandFailed
from baoha_cli.output.documents import Document
from baoha_cli.output.gotext import plain_table
from baoha_cli.shell.command import command, new_group
from baoha_cli.shell.context import Cli
from baoha_cli.shell.environment import duration_s
from baoha_cli.survey.nodes import Link, SeenRole
from baoha_cli.survey.table import summary_line
from baoha_cli.text import one_line

if TYPE_CHECKING:
    from baoha_cli.survey.nodes import ClusterReport

app = new_group("cluster", "Look at the cluster from every node's point of view.")

_HISTORY_EPILOG = (
    "Servers of baoha, OpenBao and Vault tell since when a node is active, and keep no list of the "
    "leaders before it: 'earlier' is null in JSON, and the exit code is 1. 'cluster watch -o "
    "ndjson' records changes from now on."
)


@command(app, "members", profile=Profile.DETAILED, timeout_s=3.0)
async def members(cli: Cli) -> Verdict:
    """List all nodes known to anybody; works without a leader, and in part without a token."""
    from baoha_cli.diagnose.judge import judge_round
    from baoha_cli.survey.ask import ROLES_ONLY
    from baoha_cli.survey.round import look_round

    judged = judge_round(await look_round(cli, options=ROLES_ONLY))
    report = judged.report
    rows: dict[str, dict[str, object]] = {}
    for node in report.nodes:
        own = node.leader_address if node.role is SeenRole.ACTIVE else ""
        rows[own or node.endpoint.url] = {
            "addr": own or node.endpoint.url,
            "node": node.label,
            "role": node.role.value if node.reachable else "down",
            "version": node.version or None,
            "asked": True,
            "last_echo": None,
        }
    for listed in await _listed_members(cli):
        address = as_text(listed.get("api_address"))
        row = rows.setdefault(
            address,
            {
                "addr": address,
                "node": as_text(listed.get("hostname")),
                "role": None,
                "asked": False,
            },
        )
        row["version"] = row.get("version") or listed.get("version")
        row["last_echo"] = listed.get("last_echo")
        row["role"] = row["role"] or ("active" if listed.get("active_node") else "standby")
    data = {"schema": "baoha.members/v1", "members": list(rows.values())}
    header = ("NODE", "ADDRESS", "ROLE", "VERSION", "LAST ECHO", "ASKED")
    table = [header, *(_member_row(row) for row in rows.values())]
    cli.emit(
        Document(
            data,
            lambda _: plain_table(table, gap=2),
            rows=table,
            names=[one_line(address) for address in rows],
            records=list(rows.values()),
        )
    )
    return judged.verdict


async def _listed_members(cli: Cli) -> list[dict[str, object]]:
    """Return what the leader knows, if there is a token and a leader."""
    if cli.token is None:
        cli.verbose("no token: only the addresses given are listed")
        return []
    try:
        return member_nodes(await cli.call("GET", "sys/ha-status"))
    except CommandFailed as failure:
        cli.out.note(f"warning: sys/ha-status: {one_line(failure.message)}")
        return []


def _member_row(row: dict[str, object]) -> tuple[str, ...]:
    names = ("node", "addr", "role", "version", "last_echo")
    cells = tuple(one_line(str(row.get(name) or "–")) for name in names)
    return (*cells, "yes" if row.get("asked") else "no")


@command(app, "topology", profile=Profile.DETAILED, timeout_s=3.0)
async def topology(cli: Cli) -> Verdict:
    """Show who names whom as leader, and how requests travel."""
    from baoha_cli.diagnose.judge import judge_round
    from baoha_cli.survey.round import look_round

    judged = judge_round(await look_round(cli))
    report = judged.report
    edges = [_edge(report, index) for index in range(len(report.nodes))]
    data = {"schema": "baoha.topology/v1", "edges": edges, "agrees": report.agrees}
    header = ("FROM", "TO", "LINK")
    rows = [header, *((str(e["from"]), str(e["to"] or "NONE"), str(e["link"])) for e in edges)]
    agrees = "all nodes agree" if report.agrees else "NODES DO NOT AGREE"

    def table(_: bool) -> str:
        return f"{plain_table(rows, gap=2)}\n{agrees}\n{summary_line(judged, cli.out.paint)}"

    cli.emit(Document(data, table, rows=rows, records=edges))
    return judged.verdict


def _edge(report: ClusterReport, index: int) -> dict[str, object]:
    node = report.nodes[index]
    link = "self" if node.link is Link.SELF else node.link.value
    return {
        "from": node.label,
        "to": one_line(report.leader_label(node)) or None if node.reachable else None,
        "role": node.role.value,
        "link": link if node.reachable else f"down ({node.error_kind})",
    }


@command(app, "watch", profile=Profile.DETAILED, timeout_s=3.0)
async def watch(
    cli: Cli,
    *,
    interval: Annotated[
        str, typer.Option("--interval", metavar="TIME", help="Pause between two looks.")
    ] = "1s",
) -> Verdict:
    """Print a line (or record) per change, until Ctrl-C."""
    from baoha_cli.commands.status import watch_changes

    return await watch_changes(cli, cli.endpoints, duration_s(interval, what="--interval"))


@command(app, "history", profile=Profile.DETAILED, timeout_s=3.0, epilog=_HISTORY_EPILOG)
async def history(cli: Cli) -> Verdict:
    """Print who leads and since when; exit 1, since no server can name the leaders before."""
    from baoha_cli.commands.history import show_history

    return await show_history(cli)


@command(app, "unseal")
async def unseal(
    cli: Cli,
    *,
    source: Annotated[
        str | None, typer.Argument(metavar="[-]", help="- reads the shares, one per line.")
    ] = None,
) -> Verdict:
    """Unseal every sealed node of --address; each share is asked for once."""
    from baoha_cli.failures import UsageFailed
    from baoha_cli.operate.unseal import unseal_all

    if source not in (None, "-"):
        raise UsageFailed("cluster unseal takes no key: shares are asked for, or read with -")
    return await unseal_all(cli, from_stdin=source == "-")
