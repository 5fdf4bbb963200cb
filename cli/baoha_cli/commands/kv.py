"""
`baoha kv`: the key/value store, versions 1 and 2.

Rule of this file: the mount is asked for first (sys/internal/ui/mounts), since version 2 has other
paths; nothing is guessed from the path's text.

Source: `bao kv` 2.7.2: requests seen through a proxy, words and exit codes run beside this.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from baoha_cli.client.answer import Answer, as_int, as_mapping, as_text
from baoha_cli.commands.read_write import clean_path, no_value, print_list
from baoha_cli.commands.secret_document import has_content, secret_data, show_warnings
from baoha_cli.exits import Verdict
from baoha_cli.failures import CommandFailed, UsageFailed
from baoha_cli.output.documents import Document
from baoha_cli.output.gotext import titled_line, titled_table
from baoha_cli.shell.command import command, new_group
from baoha_cli.shell.context import Cli, doing
from baoha_cli.shell.inputs import key_values, pairs
from baoha_cli.text import printable

app = new_group("kv", "Interact with the key/value store.")
metadata_app = new_group("metadata", "Interact with the metadata of a key.")
app.add_typer(metadata_app, name="metadata")

MERGE_PATCH = ("Content-Type", "application/merge-patch+json")

Key = Annotated[str, typer.Argument(metavar="KEY", help="Mount and key, such as secret/app.")]
Data = Annotated[
    list[str] | None,
    typer.Argument(metavar="[DATA]...", help="key=value, key=@file, key=-, @file.json or -."),
]
Mount = Annotated[
    str | None, typer.Option("--mount", metavar="PATH", help="Mount; KEY is then below it.")
]
Versions = Annotated[
    list[str] | None,
    typer.Option("--versions", metavar="N,...", help="Versions; a comma list or repeated."),
]


@dataclass(frozen=True)
class Place:
    """
    A key in a mount.

    Args:
        mount: path of the mount, without slashes around it.
        key: the rest; "" for the mount itself.
        version: 1 or 2.
    """

    mount: str
    key: str
    version: int

    def path(self, part: str) -> str:
        """Return the API path for a part of version 2 ("data", "metadata", "delete", ...)."""
        pieces = [self.mount, part if self.version == 2 else "", self.key]
        return "/".join(piece for piece in pieces if piece)

    def need_version_2(self, what: str) -> None:
        """
        Refuse version 1.

        Raises:
            CommandFailed: the mount is version 1.
        """
        if self.version != 2:
            raise CommandFailed(f"{what} not supported on KV Version 1", verdict=Verdict.LOCAL)


async def find_place(cli: Cli, key: str, mount: str | None) -> Place:
    """
    Ask which mount a key is in, and its version.

    Raises:
        ApiFailed: no such mount, or no access to it.
    """
    path = clean_path(key) if mount is None else clean_path(mount)
    asked = f"sys/internal/ui/mounts/{path}"
    answer = await cli.call("GET", asked, accept=(404,), is_preflight=True)
    if answer.status == 404:  # a server too old to know: it has version 1 only
        head, _, rest = path.partition("/")
        return Place(head, rest if mount is None else key.strip("/"), 1)
    data = as_mapping(answer.mapping().get("data"))
    found = as_text(data.get("path")).strip("/") or path.partition("/")[0]
    version = 2 if as_text(as_mapping(data.get("options")).get("version")) == "2" else 1
    if mount is not None:
        return Place(found, key.strip("/"), version)
    rest = path[len(found) :].strip("/") if path.startswith(found) else path
    return Place(found, rest, version)


@command(app, "get")
async def get(
    cli: Cli,
    *,
    key: Key,
    mount: Mount = None,
    version: Annotated[
        int, typer.Option("--version", metavar="N", help="This version; 0 is the newest.")
    ] = 0,
) -> Verdict:
    """Retrieve a key's data."""
    place = await find_place(cli, key, mount)
    path = place.path("data")
    query = [("version", str(version))] if place.version == 2 and version > 0 else []
    answer = await _read(cli, path, query)
    if not has_content(answer):
        return no_value(cli, path)
    show_warnings(cli, answer)
    body = answer.mapping()
    data = as_mapping(body.get("data"))
    if place.version == 1:
        cli.emit(Document(secret_data(body), lambda _: _titled("Data", data), fields=data))
        return Verdict.OK
    values, metadata = data.get("data"), as_mapping(data.get("metadata"))

    def table(_: bool) -> str:
        parts = [titled_line("Secret Path", printable(path)), ""]
        parts += [_titled("Metadata", metadata), ""] if metadata else []
        if values is not None:
            parts.append(_titled("Data", as_mapping(values)))
        return "\n".join(parts)

    cli.emit(Document(secret_data(body), table, fields=as_mapping(values)))
    return Verdict.OK


@command(app, "put")
async def put(
    cli: Cli,
    *,
    key: Key,
    data: Data = None,
    mount: Mount = None,
    cas: Annotated[
        int,
        typer.Option("--cas", metavar="N", help="Write only if this is the current version."),
    ] = -1,
) -> Verdict:
    """Set a key's data."""
    values = key_values(data or [])
    if not values:
        raise UsageFailed("Must supply data")
    place = await find_place(cli, key, mount)
    path = place.path("data")
    options = {"cas": cas} if cas >= 0 else {}
    body = {"data": values, "options": options} if place.version == 2 else values
    with doing(f"writing data to {path}"):
        answer = await cli.call("PUT", path, body=body)
    return _written(cli, path, answer)


@command(app, "patch")
async def patch(
    cli: Cli,
    *,
    key: Key,
    data: Data = None,
    mount: Mount = None,
    cas: Annotated[
        int,
        typer.Option("--cas", metavar="N", help="Patch only if this is the current version."),
    ] = 0,
    method: Annotated[
        str,
        typer.Option("--method", metavar="HOW", help="patch, or rw (read, then write)."),
    ] = "",
    remove_data: Annotated[
        list[str] | None,
        typer.Option("--remove-data", metavar="NAME", help="Remove this entry; repeatable."),
    ] = None,
) -> Verdict:
    """Change some of a key's data."""
    if method not in ("", "patch", "rw"):
        raise UsageFailed('--method: give "patch" or "rw"')
    values = key_values(data or [])
    values.update(dict.fromkeys(remove_data or []))
    if not values:
        raise UsageFailed("Must supply data")
    place = await find_place(cli, key, mount)
    if place.version != 2:
        raise CommandFailed(
            "K/V engine mount must be version 2 for patch support", verdict=Verdict.API
        )
    path = place.path("data")
    if method != "rw":
        options = {"cas": cas} if cas > 0 else {}
        body = {"data": values, "options": options}
        with doing(f"writing data to {path}"):
            answer = await cli.call("PATCH", path, body=body, headers=[MERGE_PATCH], accept=(405,))
            if answer.status != 405:
                return _written(cli, path, answer)
            if method == "patch":
                raise answer.failure()
    return await _read_and_write(cli, path, values, cas)


async def _read_and_write(cli: Cli, path: str, values: dict[str, object], cas: int) -> Verdict:
    """Change data where the server has no PATCH; check-and-set keeps others' changes."""
    answer = await _read(cli, path, [])
    data = as_mapping(answer.mapping().get("data"))
    current = data.get("data")
    if not isinstance(current, dict):
        return no_value(cli, path)
    version = as_int(as_mapping(data.get("metadata")).get("version")) or 0
    merged = {**current, **values}
    merged = {name: value for name, value in merged.items() if value is not None}
    body = {"data": merged, "options": {"cas": cas if cas > 0 else version}}
    with doing(f"writing data to {path}"):
        written = await cli.call("PUT", path, body=body)
    return _written(cli, path, written)


@command(app, "delete")
async def delete(cli: Cli, *, key: Key, mount: Mount = None, versions: Versions = None) -> Verdict:
    """Delete a key's newest version, or those given."""
    place = await find_place(cli, key, mount)
    listed = _version_list(versions)
    path = place.path("data")
    with doing(f"deleting {path}"):
        if listed and place.version == 2:
            await cli.call("PUT", place.path("delete"), body={"versions": listed})
        else:
            await cli.call("DELETE", path)
    cli.out.say(f"Success! Data deleted (if it existed) at: {path}")
    return Verdict.OK


@command(app, "undelete")
async def undelete(
    cli: Cli, *, key: Key, mount: Mount = None, versions: Versions = None
) -> Verdict:
    """Bring deleted versions back."""
    return await _for_versions(cli, key, mount, versions, "undelete", "Undelete")


@command(app, "destroy")
async def destroy(cli: Cli, *, key: Key, mount: Mount = None, versions: Versions = None) -> Verdict:
    """Remove versions for good."""
    return await _for_versions(cli, key, mount, versions, "destroy", "Destroy")


@command(app, "list")
async def list_(
    cli: Cli,
    *,
    path: Annotated[str, typer.Argument(metavar="[PATH]", help="Mount and folder.")] = "",
    mount: Mount = None,
) -> Verdict:
    """List keys."""
    place = await find_place(cli, path, mount)
    return await print_list(cli, place.path("metadata"))


@command(metadata_app, "get")
async def metadata_get(cli: Cli, *, key: Key, mount: Mount = None) -> Verdict:
    """Retrieve a key's metadata and versions."""
    place = await find_place(cli, key, mount)
    place.need_version_2("Metadata")
    path = place.path("metadata")
    answer = await _read(cli, path, [])
    if not has_content(answer):
        return no_value(cli, path)
    body = answer.mapping()
    data = dict(as_mapping(body.get("data")))
    versions = as_mapping(data.pop("versions", None))

    def table(_: bool) -> str:
        parts = [titled_line("Metadata Path", printable(path)), _titled("Metadata", data)]
        numbered = sorted(versions, key=lambda name: int(name) if name.isdecimal() else 0)
        for name in numbered:
            parts.append(_titled(f"Version {printable(name)}", as_mapping(versions[name])))
        return "\n\n".join(parts)

    cli.emit(Document(secret_data(body), table, fields=as_mapping(body.get("data"))))
    return Verdict.OK


@command(metadata_app, "put")
async def metadata_put(
    cli: Cli,
    *,
    key: Key,
    mount: Mount = None,
    max_versions: Annotated[
        int, typer.Option("--max-versions", metavar="N", help="Versions to keep.")
    ] = -1,
    cas_required: Annotated[
        bool | None,
        typer.Option("--cas-required/--no-cas-required", help="Refuse writes without --cas."),
    ] = None,
    delete_version_after: Annotated[
        str | None,
        typer.Option("--delete-version-after", metavar="TIME", help="Delete versions by age."),
    ] = None,
    custom_metadata: Annotated[
        list[str] | None,
        typer.Option("--custom-metadata", metavar="KEY=VALUE", help="Notes; repeatable."),
    ] = None,
) -> Verdict:
    """Set a key's settings."""
    body: dict[str, object] = {}
    if max_versions >= 0:
        body["max_versions"] = max_versions
    if cas_required is not None:
        body["cas_required"] = cas_required
    if delete_version_after is not None:
        body["delete_version_after"] = delete_version_after
    if custom_metadata:
        body["custom_metadata"] = pairs(custom_metadata, what="--custom-metadata")
    place = await find_place(cli, key, mount)
    place.need_version_2("Metadata")
    path = place.path("metadata")
    with doing(f"writing data to {path}"):
        await cli.call("PUT", path, body=body)
    cli.out.say(f"Success! Data written to: {path}")
    return Verdict.OK


@command(metadata_app, "delete")
async def metadata_delete(cli: Cli, *, key: Key, mount: Mount = None) -> Verdict:
    """Remove a key with all its versions."""
    place = await find_place(cli, key, mount)
    place.need_version_2("Metadata")
    path = place.path("metadata")
    with doing(f"deleting {path}"):
        await cli.call("DELETE", path)
    cli.out.say(f"Success! Data deleted (if it existed) at: {path}")
    return Verdict.OK


async def _for_versions(
    cli: Cli, key: str, mount: str | None, versions: list[str] | None, part: str, what: str
) -> Verdict:
    listed = _version_list(versions)
    if not listed:
        raise UsageFailed('No versions provided, use the "-versions" flag to specify them')
    place = await find_place(cli, key, mount)
    place.need_version_2(what)
    path = place.path(part)
    with doing(f"writing data to {path}"):
        await cli.call("PUT", path, body={"versions": listed})
    cli.out.say(f"Success! Data written to: {path}")
    return Verdict.OK


async def _read(cli: Cli, path: str, query: list[tuple[str, str]]) -> Answer:
    with doing(f"reading {path}"):
        answer = await cli.call("GET", path, query=query, accept=(404,))
        if answer.status == 404 and answer.errors():
            raise answer.failure()
    return answer


def _written(cli: Cli, path: str, answer: Answer) -> Verdict:
    show_warnings(cli, answer)
    if not has_content(answer):
        if cli.out.is_plain:
            cli.out.say(f"Success! Data written to: {path}")
        return Verdict.OK
    body = answer.mapping()
    data = as_mapping(body.get("data"))

    def table(_: bool) -> str:
        return f"{titled_line('Secret Path', printable(path))}\n\n{_titled('Metadata', data)}"

    cli.emit(Document(secret_data(body), table, fields=data))
    return Verdict.OK


def _titled(title: str, data: dict[str, Any]) -> str:
    return printable(titled_table(title, data), chars_max=1 << 24)


def _version_list(given: list[str] | None) -> list[str]:
    parts = [part.strip() for text in given or [] for part in text.split(",") if part.strip()]
    for part in parts:
        if not (part.isascii() and part.isdecimal()) or len(part) > 18:
            raise UsageFailed(f"--versions: {part[:40]!a} is not a number")
    return parts
