"""
`baoha version`: our version, and with `--server` that of every node.
"""

from __future__ import annotations

import platform
from collections.abc import Awaitable
from typing import Annotated

import typer

from baoha import __version__
from baoha_cli.exits import Verdict
from baoha_cli.output.documents import Document
from baoha_cli.output.gotext import plain_table
from baoha_cli.shell.command import command, new_group
from baoha_cli.shell.context import Cli
from baoha_cli.text import one_line

app = new_group("version", "Print the version of baoha, and of servers.")


@command(app, "version", timeout_s=3.0)
def version(
    cli: Cli,
    *,
    server: Annotated[
        bool, typer.Option("--server", help="Ask the nodes for their versions too.")
    ] = False,
) -> Verdict | Awaitable[Verdict]:
    """Print the version of baoha, and of servers."""
    if server:
        return _with_nodes(cli)
    text = f"baoha v{__version__} (Python {platform.python_version()})"
    cli.emit(Document(_data(), lambda _: text, names=[__version__]))
    return Verdict.OK


async def _with_nodes(cli: Cli) -> Verdict:
    from baoha_cli.survey.round import survey

    cluster = await survey(cli)
    rows = [(one_line(node.label), one_line(node.version or "unknown")) for node in cluster.nodes]
    data = _data()
    data["nodes"] = [
        {"addr": node.endpoint.url, "version": node.version or None} for node in cluster.nodes
    ]
    table = plain_table([("NODE", "VERSION"), ("(baoha)", __version__), *rows], gap=2)
    cli.emit(Document(data, lambda _: table, rows=rows, names=[name for _, name in rows]))
    return Verdict.OK if all(node.reachable for node in cluster.nodes) else Verdict.UNREACHABLE


def _data() -> dict[str, object]:
    return {
        "schema": "baoha.version/v1",
        "version": __version__,
        "python": platform.python_version(),
    }
