"""
`baoha leader`: the active node, as all given nodes see it.

Source: docs/spec/cluster-cli.md section 3.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from baoha_cli.exits import Profile, Verdict
from baoha_cli.output.documents import Document
from baoha_cli.shell.command import command, new_group
from baoha_cli.shell.context import Cli
from baoha_cli.text import one_line

if TYPE_CHECKING:
    from baoha_cli.survey.nodes import ClusterReport

app = new_group("leader", "Print the address of the active node.")

_POLL_S: Final = 0.25


@command(app, "leader", profile=Profile.DETAILED, timeout_s=3.0)
async def leader(
    cli: Cli,
    *,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until there is one (limit it with --deadline).")
    ] = False,
) -> Verdict:
    """Print the address of the active node."""
    import trio

    from baoha_cli.diagnose.judge import judge_round
    from baoha_cli.survey.ask import ROLES_ONLY, look_at_nodes
    from baoha_cli.survey.look import report_of

    async with cli.client() as client:
        while True:
            looks = await look_at_nodes(client, cli.labels, ROLES_ONLY)
            found = leader_data(report_of(looks))
            if found["address"] is not None or not wait:
                break
            await trio.sleep(_POLL_S)
    if found["address"] is None:
        if not cli.out.is_plain:
            cli.emit(Document(found, lambda _: ""))
        cli.out.error("no active node is known")
        verdict = judge_round(looks).verdict
        return Verdict.DEGRADED if verdict is Verdict.OK else verdict
    address = one_line(str(found["address"]), chars_max=2048)
    document = Document(found, lambda _: address, names=[str(found["node"] or address)])
    cli.emit(document)
    return Verdict.OK


def leader_data(report: ClusterReport) -> dict[str, object]:
    """
    Return the leader by its own word, or else by what the standbys say.

    "certain" tells whether the node itself was asked and says so too.
    """
    active = report.active
    data: dict[str, object] = {
        "schema": "baoha.leader/v1",
        "node": None,
        "address": None,
        "cluster_address": None,
        "active_time": None,
        "certain": active is not None,
        "seen_by": [],
    }
    if active is not None:
        data.update(
            node=active.label,
            address=active.leader_address or active.endpoint.url,
            cluster_address=active.leader_cluster_address or None,
            active_time=active.active_time or None,
            seen_by=[node.label for node in report.standbys if report.named_leader(node) is active],
        )
        return data
    named = {node.leader_key: node for node in report.standbys if node.leader_address}
    if report.actives or len(named) != 1:
        return data
    [witness] = named.values()
    known = report.named_leader(witness)
    if known is not None:
        return data  # it was asked, and it is not active: the standbys are behind
    data.update(
        address=witness.leader_address,
        cluster_address=witness.leader_cluster_address or None,
        seen_by=[node.label for node in report.standbys if node.leader_key == witness.leader_key],
    )
    return data
