"""
`baoha policy`: write, read, list and delete ACL policies.

Source: `bao policy` 2.7.2.
"""

from __future__ import annotations

from typing import Annotated

import typer

from baoha_cli.client.answer import as_mapping, as_text
from baoha_cli.commands.secret_document import listed_keys, show_warnings
from baoha_cli.exits import Verdict
from baoha_cli.failures import UsageFailed
from baoha_cli.output.documents import Document
from baoha_cli.shell.command import command, new_group
from baoha_cli.shell.context import Cli, doing
from baoha_cli.shell.inputs import read_file, read_stdin
from baoha_cli.text import printable

app = new_group("policy", "Write, read, list and delete policies.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the policy.")]


@command(app, "list")
async def list_(cli: Cli) -> Verdict:
    """List the policies."""
    with doing("listing policies"):
        answer = await cli.call("GET", "sys/policies/acl", query=[("list", "true")])
    keys = listed_keys(answer)
    names = [printable(as_text(key)) for key in keys]
    rows = [(name,) for name in names]
    cli.emit(Document(keys, lambda _: "\n".join(names), rows=rows, names=names, records=keys))
    return Verdict.OK


@command(app, "read")
async def read(cli: Cli, *, name: Name) -> Verdict:
    """Print a policy."""
    name = _clean(name)
    with doing(f"reading policy named {name}"):
        answer = await cli.call("GET", f"sys/policies/acl/{name}", accept=(404,))
        if answer.status == 404 and answer.errors():
            raise answer.failure()
    data = as_mapping(answer.mapping().get("data"))
    if "policy" not in data:
        cli.out.error(f"No policy named: {name}")
        return Verdict.API
    text = as_text(data["policy"])
    shown = printable(text.strip("\n"), chars_max=1 << 24)
    cli.emit(Document({"policy": text}, lambda _: shown))
    return Verdict.OK


@command(app, "write")
async def write(
    cli: Cli,
    *,
    name: Name,
    source: Annotated[str, typer.Argument(metavar="FILE", help="File of rules; - reads it.")],
) -> Verdict:
    """Write a policy from a file."""
    name = _clean(name)
    content = read_stdin() if source == "-" else read_file(source)
    with doing("uploading policy"):
        body = {"policy": content.decode("utf-8", "replace").strip()}
        answer = await cli.call("PUT", f"sys/policies/acl/{name}", body=body)
    show_warnings(cli, answer)
    cli.out.say(f"Success! Uploaded policy: {name}")
    return Verdict.OK


@command(app, "delete")
async def delete(cli: Cli, *, name: Name) -> Verdict:
    """Delete a policy."""
    name = _clean(name)
    with doing(f"deleting {name}"):
        await cli.call("DELETE", f"sys/policies/acl/{name}")
    cli.out.say(f"Success! Deleted policy: {name}")
    return Verdict.OK


def _clean(name: str) -> str:
    cleaned = name.strip().lower()
    if not cleaned.strip("/"):
        raise UsageFailed("the name of the policy is empty")
    return cleaned
