"""
`baoha token`: create, lookup, renew, revoke.

Source: `bao token` 2.7.2: requests seen through a proxy, words and exit codes run beside this.
"""

from __future__ import annotations

from typing import Annotated

import typer

from baoha_cli.commands.read_write import WrapTTL, wrap
from baoha_cli.commands.secret_document import secret_document, show_warnings
from baoha_cli.exits import Verdict
from baoha_cli.failures import UsageFailed
from baoha_cli.shell.command import command, new_group
from baoha_cli.shell.context import Cli, doing
from baoha_cli.shell.environment import duration_s
from baoha_cli.shell.inputs import pairs, read_stdin

app = new_group("token", "Create, look up, renew and revoke tokens.")

TokenArgument = Annotated[
    str | None,
    typer.Argument(metavar="[TOKEN]", help="Token or accessor; - reads it; your own without."),
]
Accessor = Annotated[bool, typer.Option("--accessor", help="The argument is an accessor.")]


@command(app, "create")
async def create(
    cli: Cli,
    *,
    policy: Annotated[
        list[str] | None, typer.Option("--policy", metavar="NAME", help="Policy; repeatable.")
    ] = None,
    ttl: Annotated[str, typer.Option("--ttl", metavar="TIME", help="First TTL.")] = "0s",
    explicit_max_ttl: Annotated[
        str, typer.Option("--explicit-max-ttl", metavar="TIME", help="Never longer than this.")
    ] = "0s",
    period: Annotated[
        str, typer.Option("--period", metavar="TIME", help="Periodic: each renewal lasts so long.")
    ] = "0s",
    renewable: Annotated[
        bool, typer.Option("--renewable/--no-renewable", help="May be renewed.")
    ] = True,
    orphan: Annotated[bool, typer.Option("--orphan", help="Without a parent.")] = False,
    no_default_policy: Annotated[
        bool, typer.Option("--no-default-policy", help="Without the default policy.")
    ] = False,
    use_limit: Annotated[
        int, typer.Option("--use-limit", metavar="N", help="Uses; 0 is without limit.")
    ] = 0,
    display_name: Annotated[
        str, typer.Option("--display-name", metavar="NAME", help="Name shown in logs.")
    ] = "",
    metadata: Annotated[
        list[str] | None,
        typer.Option("--metadata", metavar="KEY=VALUE", help="Notes in the audit log; repeatable."),
    ] = None,
    kind: Annotated[
        str, typer.Option("--type", metavar="TYPE", help="service or batch.")
    ] = "service",
    token_id: Annotated[
        str | None, typer.Option("--id", metavar="TEXT", help="The token itself; needs sudo.")
    ] = None,
    role: Annotated[str | None, typer.Option("--role", metavar="NAME", help="Token role.")] = None,
    wrap_ttl: WrapTTL = None,
) -> Verdict:
    """Create a token, a child of your own."""
    body: dict[str, object] = {
        "policies": policy or [],
        "meta": pairs(metadata or [], what="--metadata"),
        "ttl": _seconds(ttl, "--ttl"),
        "explicit_max_ttl": _seconds(explicit_max_ttl, "--explicit-max-ttl"),
        "period": _seconds(period, "--period"),
        "no_parent": orphan,
        "no_default_policy": no_default_policy,
        "display_name": display_name,
        "num_uses": use_limit,
        "renewable": renewable,
        "type": kind,
    }
    if token_id is not None:
        body["id"] = token_id
    path = f"auth/token/create/{role}" if role else "auth/token/create"
    with doing("creating token"):
        answer = await cli.call("POST", path, body=body, headers=wrap(wrap_ttl))
    show_warnings(cli, answer)
    cli.emit(secret_document(answer.mapping()))
    return Verdict.OK


@command(app, "lookup")
async def lookup(cli: Cli, *, token: TokenArgument = None, accessor: Accessor = False) -> Verdict:
    """Show what is known about a token."""
    value = _given(token)
    if accessor and value is None:
        raise UsageFailed("--accessor needs the accessor")
    with doing("looking up token"):
        if value is None:
            answer = await cli.call("GET", "auth/token/lookup-self")
        elif accessor:
            answer = await cli.call("POST", "auth/token/lookup-accessor", body={"accessor": value})
        else:
            answer = await cli.call("POST", "auth/token/lookup", body={"token": value})
    show_warnings(cli, answer)
    cli.emit(secret_document(answer.mapping()))
    return Verdict.OK


@command(app, "renew")
async def renew(
    cli: Cli,
    *,
    token: TokenArgument = None,
    accessor: Accessor = False,
    increment: Annotated[
        str, typer.Option("--increment", "-i", metavar="TIME", help="Ask for so much more.")
    ] = "0s",
) -> Verdict:
    """Make a token last longer."""
    value = _given(token)
    if accessor and value is None:
        raise UsageFailed("--accessor needs the accessor")
    body: dict[str, object] = {"increment": _seconds(increment, "--increment")}
    with doing("renewing token"):
        if value is None:
            answer = await cli.call("PUT", "auth/token/renew-self", body=body)
        elif accessor:
            body["accessor"] = value
            answer = await cli.call("POST", "auth/token/renew-accessor", body=body)
        else:
            body["token"] = value
            answer = await cli.call("PUT", "auth/token/renew", body=body)
    show_warnings(cli, answer)
    cli.emit(secret_document(answer.mapping()))
    return Verdict.OK


@command(app, "revoke")
async def revoke(
    cli: Cli,
    *,
    token: TokenArgument = None,
    accessor: Accessor = False,
    self_: Annotated[bool, typer.Option("--self", help="Your own token.")] = False,
    mode: Annotated[
        str,
        typer.Option("--mode", metavar="MODE", help="orphan (keep the children) or path (prefix)."),
    ] = "",
) -> Verdict:
    """Revoke a token and its children."""
    value = _given(token)
    if mode not in ("", "orphan", "path"):
        raise UsageFailed(f"--mode: {mode[:40]!a} is not orphan or path")
    if (value is None) != self_:
        raise UsageFailed("give a token, or --self, and not both")
    if ((self_ or mode == "path") and accessor) or (self_ and mode):
        raise UsageFailed("--self, --accessor and --mode do not go together that way")
    with doing("revoking token"):
        if value is None:
            await cli.call("PUT", "auth/token/revoke-self")
        elif accessor:
            await cli.call("POST", "auth/token/revoke-accessor", body={"accessor": value})
        elif mode == "path":
            await cli.call("PUT", f"sys/leases/revoke-prefix/{value.strip('/')}")
        else:
            part = "revoke-orphan" if mode == "orphan" else "revoke"
            await cli.call("PUT", f"auth/token/{part}", body={"token": value})
    cli.out.say("Success! Revoked token (if it existed)")
    return Verdict.OK


def _given(argument: str | None) -> str | None:
    if argument == "-":
        return read_stdin().decode("utf-8", "replace").strip()
    return argument


def _seconds(text: str, flag: str) -> int:
    return int(duration_s(text, what=flag))
