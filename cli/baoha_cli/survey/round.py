"""
One round over the nodes of a command: what commands ask that need no judgement of checks.

Rule of this file: it asks nothing itself; `ask` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from baoha_cli.client.address import Endpoint, labels
from baoha_cli.client.client import Client
from baoha_cli.shell.context import Cli
from baoha_cli.survey.ask import ROLES_ONLY, AskOptions, look_at_nodes
from baoha_cli.survey.look import NodeLook, report_of
from baoha_cli.survey.nodes import ClusterReport


async def look_round(
    cli: Cli, *, endpoints: Sequence[Endpoint] | None = None, options: AskOptions | None = None
) -> tuple[NodeLook, ...]:
    """
    Look at the given nodes (those of the command line by default) once.

    Args:
        cli: for transport and addresses.
        endpoints: other addresses.
        options: what to ask.
    """
    async with cli.client() as client:
        named = labels(tuple(endpoints or cli.endpoints))
        return await look_at_nodes(client, named, options or AskOptions())


async def survey(cli: Cli) -> ClusterReport:
    """Ask the nodes of the command line who they are and who leads."""
    return report_of(await look_round(cli, options=ROLES_ONLY))


async def survey_nodes(
    client: Client, named: Mapping[Endpoint, str], *, links: bool = True
) -> ClusterReport:
    """
    Ask labelled nodes once, with a client that stays open (for watching).

    Args:
        client: stays open.
        named: addresses and labels.
        links: also test how standbys forward.
    """
    options = AskOptions(product=False) if links else ROLES_ONLY
    return report_of(await look_at_nodes(client, named, options))
