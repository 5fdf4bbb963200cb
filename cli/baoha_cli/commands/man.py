"""
`baoha man`: manual pages, written from the commands themselves.

Rule of this file: a page is a pure function of the command tree, the same on every machine: no date
and no paths in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from baoha_cli.exits import Verdict
from baoha_cli.failures import UsageFailed
from baoha_cli.shell.command import command, new_group
from baoha_cli.shell.context import Cli

if TYPE_CHECKING:
    from baoha_cli.manual.tree import CommandNode

app = new_group("man", "Print a manual page, or write all of them.")

_EPILOG = (
    "To read a page: baoha man kv get | man -l -. To install all: baoha man --dir "
    "~/.local/share/man/man1."
)


@command(app, "man", epilog=_EPILOG)
def man(
    cli: Cli,
    *,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="[COMMAND]...", help="Command, such as: kv get.")
    ] = None,
    directory: Annotated[
        str | None,
        typer.Option("--dir", metavar="DIR", help="Write one file per command into it."),
    ] = None,
) -> Verdict:
    """Print a manual page, or write all of them."""
    from baoha_cli.manual.pages import page, page_name
    from baoha_cli.manual.tree import command_tree

    tree = command_tree()
    path = tuple(words or ())
    node = tree.find(path)
    if node is None:
        raise UsageFailed(f"no such command: {' '.join(path)[:80]!a}")
    if directory is None:
        cli.out.write(page(node))
        return Verdict.OK
    nodes = list(node.walk())
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    for each in nodes:
        (target / f"{page_name(each)}.1").write_text(page(each), encoding="ascii")
    cli.out.note(_written(nodes, target))
    return Verdict.OK


def _written(nodes: list[CommandNode], target: Path) -> str:
    pages = "1 page" if len(nodes) == 1 else f"{len(nodes)} pages"
    return f"{pages} written to {str(target)!a}"
