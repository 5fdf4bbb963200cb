"""
`baoha login`: check a token (or log in with a method) and keep the token for later commands.

Rule of this file: the token is kept only after the server accepted it, in the file that `bao` uses
too, readable by its owner only.

Source: `bao login` 2.7.2.
"""

from __future__ import annotations

from typing import Annotated

import typer

from baoha_cli.client.answer import Answer, as_list, as_mapping, as_text
from baoha_cli.client.token import Token
from baoha_cli.commands.secret_document import secret_document, show_warnings
from baoha_cli.exits import Verdict
from baoha_cli.failures import CommandFailed, UsageFailed
from baoha_cli.shell.command import command, new_group
from baoha_cli.shell.context import Cli, doing
from baoha_cli.shell.environment import checked_token, store_token, token_path
from baoha_cli.shell.environment import lookup as env_lookup
from baoha_cli.shell.inputs import ask_secret, key_values, secret_argument

app = new_group("login", "Log in, and keep the token for later commands.")

_STORED = """Success! You are now authenticated. The token information displayed below is
already stored in the token helper. You do NOT need to run "baoha login" again.
Future requests will automatically use this token.
"""
_NOT_STORED = """The token was not stored. Set the BAO_TOKEN environment variable or pass the token
below with each request.
"""


@command(app, "login")
async def login(
    cli: Cli,
    *,
    data: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TOKEN|K=V]...", help="Token (- reads it), or data of the method."),
    ] = None,
    method: Annotated[
        str, typer.Option("--method", metavar="TYPE", help="token, userpass, approle, ldap, jwt.")
    ] = "token",
    path: Annotated[
        str, typer.Option("--path", metavar="PATH", help="Where the method is mounted.")
    ] = "",
    no_store: Annotated[bool, typer.Option("--no-store", help="Do not keep the token.")] = False,
    no_print: Annotated[bool, typer.Option("--no-print", help="Do not show the token.")] = False,
    token_only: Annotated[
        bool, typer.Option("--token-only", help="Print only the token, and do not keep it.")
    ] = False,
) -> Verdict:
    """Log in, and keep the token for later commands."""
    if no_store and no_print:
        raise UsageFailed("-no-store and -no-print cannot be used together")
    body = await _authenticate(cli, method, path, data or [])
    auth = as_mapping(body.get("auth"))
    token = as_text(auth.get("client_token"))
    if not token:
        raise CommandFailed("Error authenticating: the server gave no token", verdict=Verdict.API)
    # It becomes a header, a file and a line on the terminal.
    token = checked_token(token, "the server").value
    keep = not (no_store or token_only)
    if keep:
        target = token_path(cli.environ)
        if target is None:
            raise CommandFailed("no home directory to keep the token in", verdict=Verdict.LOCAL)
        store_token(target, token)
        other = env_lookup(cli.environ, "TOKEN")
        if other is not None:
            cli.out.note(f"warning: {other.name} is set and takes precedence over the kept token")
    if token_only:
        cli.out.write(token + ("\n" if cli.out.is_terminal else ""))
    elif not no_print:
        if cli.out.is_plain:
            cli.out.say(_STORED if keep else _NOT_STORED)
        cli.emit(secret_document(body))
    return Verdict.OK


async def _authenticate(cli: Cli, method: str, path: str, data: list[str]) -> dict[str, object]:
    """Return a body with an "auth" part."""
    mount = (path or method).strip("/")
    if method == "token":
        if len(data) > 1:
            raise UsageFailed("login takes one token")
        given = data[0].removeprefix("token=") if data else None
        return await _with_token(cli, secret_argument(cli, given, "Token"))
    values = key_values(data)
    if method in ("userpass", "ldap", "okta", "radius"):
        user = values.pop("username", None)
        if not isinstance(user, str) or not user or "/" in user:
            raise UsageFailed(f"--method={method} needs username=NAME")
        if "password" not in values:
            values["password"] = ask_secret(cli, "Password")
        place = f"auth/{mount}/login/{user}"
    else:
        place = f"auth/{mount}/login"
    with doing("authenticating"):
        answer = await cli.call("PUT", place, body=values, with_token=False)
    show_warnings(cli, answer)
    return answer.mapping()


async def _with_token(cli: Cli, value: str) -> dict[str, object]:
    value = value.strip()
    if not value or any(not 33 <= ord(char) <= 126 for char in value):
        raise UsageFailed("that is not a token")
    cli.out.hide(value)
    cli.__dict__["token"] = Token(value, "the argument")
    with doing("authenticating: error looking up token"):
        answer = await cli.call("GET", "auth/token/lookup-self")
    return _as_auth(answer, value)


def _as_auth(answer: Answer, value: str) -> dict[str, object]:
    """Turn what is known about a token into what a login answers."""
    data = as_mapping(answer.mapping().get("data"))
    policies = as_list(data.get("policies"))
    identity = as_list(data.get("identity_policies"))
    auth: dict[str, object] = {
        "client_token": value,
        "accessor": data.get("accessor"),
        "policies": [*policies, *(item for item in identity if item not in policies)],
        "token_policies": policies,
        "identity_policies": identity or None,
        "metadata": data.get("meta"),
        "orphan": False,
        "entity_id": data.get("entity_id", ""),
        "lease_duration": data.get("ttl", 0),
        "renewable": data.get("renewable", False),
        "mfa_requirement": None,
    }
    return {"request_id": "", "auth": auth}
