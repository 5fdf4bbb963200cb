"""
`read`, `write`, `list`, `delete`: any path of the API.

Source: `bao` 2.7.2: words, requests and exit codes.
"""

from __future__ import annotations

from typing import Annotated

import typer

from baoha_cli.commands.secret_document import (
    has_content,
    list_document,
    listed_keys,
    secret_document,
    show_warnings,
)
from baoha_cli.exits import Verdict
from baoha_cli.failures import UsageFailed
from baoha_cli.output.documents import Format
from baoha_cli.shell.command import command, new_group
from baoha_cli.shell.context import Cli, doing
from baoha_cli.shell.inputs import key_values, pairs

read_app = new_group("read", "Read data and secrets.")
write_app = new_group("write", "Write data, configuration and secrets.")
list_app = new_group("list", "List the keys under a path.")
delete_app = new_group("delete", "Delete secrets and configuration.")

Path = Annotated[str, typer.Argument(metavar="PATH", help="Path of the API, without /v1/.")]
WrapTTL = Annotated[
    str | None,
    typer.Option("--wrap-ttl", metavar="TIME", help="Wrap the answer in a token of this TTL."),
]


def clean_path(path: str) -> str:
    """
    Return a path of the API without slashes around it.

    Raises:
        UsageFailed: empty.
    """
    cleaned = path.strip().strip("/").removeprefix("v1/")
    if not cleaned:
        raise UsageFailed("the path is empty")
    return cleaned


def no_value(cli: Cli, path: str) -> Verdict:
    """Say that nothing is there; `bao` exits 2."""
    cli.out.error(f"No value found at {path}")
    return Verdict.API


@command(read_app, "read")
async def read(
    cli: Cli,
    *,
    path: Path,
    data: Annotated[
        list[str] | None, typer.Argument(metavar="[K=V]...", help="Query parameters.")
    ] = None,
    wrap_ttl: WrapTTL = None,
) -> Verdict:
    """Read data and secrets."""
    path = clean_path(path)
    query = tuple(pairs(data or [], what="read").items())
    with doing(f"reading {path}"):
        answer = await cli.call("GET", path, query=query, headers=wrap(wrap_ttl), accept=(404,))
        if answer.status == 404 and answer.errors():
            raise answer.failure()
    if not has_content(answer):
        return no_value(cli, path)
    show_warnings(cli, answer)
    cli.emit(secret_document(answer.mapping()))
    return Verdict.OK


@command(write_app, "write")
async def write(
    cli: Cli,
    *,
    path: Path,
    data: Annotated[
        list[str] | None,
        typer.Argument(metavar="[DATA]...", help="key=value, key=@file, key=-, @file.json or -."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Write without data.")] = False,
    wrap_ttl: WrapTTL = None,
) -> Verdict:
    """Write data, configuration and secrets."""
    path = clean_path(path)
    body = key_values(data or [])
    if not body and not force:
        raise UsageFailed("Must supply data or use -force")
    with doing(f"writing data to {path}"):
        answer = await cli.call("PUT", path, body=body or None, headers=wrap(wrap_ttl))
    show_warnings(cli, answer)
    if has_content(answer):
        cli.emit(secret_document(answer.mapping()))
    elif cli.out.is_plain:
        cli.out.say(f"Success! Data written to: {path}")
    return Verdict.OK


@command(list_app, "list")
async def list_(
    cli: Cli,
    *,
    path: Path,
    after: Annotated[
        str | None, typer.Option("--after", metavar="KEY", help="Only keys behind this one.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", help="At most so many keys; -1 is all.")
    ] = -1,
) -> Verdict:
    """List the keys under a path."""
    query = [("after", after)] if after else []
    if limit >= 0:
        query.append(("limit", str(limit)))
    return await print_list(cli, clean_path(path), query)


async def print_list(cli: Cli, path: str, query: list[tuple[str, str]] | None = None) -> Verdict:
    """Ask for a list and print it; nothing there is exit 2, as `bao`."""
    with doing(f"listing {path}"):
        answer = await cli.call(
            "GET", path, query=[*(query or []), ("list", "true")], accept=(404,)
        )
        if answer.status == 404 and answer.errors():
            raise answer.failure()
    show_warnings(cli, answer)
    keys = listed_keys(answer)
    if not keys:
        if cli.out.chosen is Format.JSON:
            cli.out.say("{}")
            return Verdict.API
        return no_value(cli, path)
    cli.emit(list_document(keys))
    return Verdict.OK


@command(delete_app, "delete")
async def delete(
    cli: Cli,
    *,
    path: Path,
    data: Annotated[
        list[str] | None, typer.Argument(metavar="[K=V]...", help="Query parameters.")
    ] = None,
) -> Verdict:
    """Delete secrets and configuration."""
    path = clean_path(path)
    query = tuple(pairs(data or [], what="delete").items())
    with doing(f"deleting {path}"):
        answer = await cli.call("DELETE", path, query=query)
    show_warnings(cli, answer)
    if has_content(answer):
        cli.emit(secret_document(answer.mapping()))
    elif cli.out.is_plain:
        cli.out.say(f"Success! Data deleted (if it existed) at: {path}")
    return Verdict.OK


def wrap(ttl: str | None) -> tuple[tuple[str, str], ...]:
    """Return the header that asks for response wrapping."""
    return (("X-Vault-Wrap-TTL", ttl),) if ttl else ()
