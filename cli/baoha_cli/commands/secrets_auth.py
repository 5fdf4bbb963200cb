"""
`baoha secrets` and `baoha auth`: what is mounted where.

Rule of this file: only what a baoha server can do is here (it mounts kv; token is its one auth
method, so that `auth` can only list). Requests, words and columns are those of `bao`.

Source: `bao secrets` and `bao auth` 2.7.2 run beside this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Final

import typer

from baoha_cli.client.answer import Answer, as_int, as_mapping, as_text
from baoha_cli.commands.secret_document import show_warnings
from baoha_cli.exits import Verdict
from baoha_cli.failures import UsageFailed
from baoha_cli.output.documents import Document
from baoha_cli.output.gotext import cell_text, dashed_table, value_text
from baoha_cli.shell.command import command, new_group
from baoha_cli.shell.context import Cli, doing
from baoha_cli.shell.environment import duration_s
from baoha_cli.shell.inputs import pairs
from baoha_cli.text import one_line, printable

secrets_app = new_group("secrets", "List, enable and disable secrets engines.")
auth_app = new_group("auth", "List the auth methods.")


@auth_app.callback()
def _auth() -> None:
    """Keep `auth` a group although it has one command only."""


Detailed = Annotated[bool, typer.Option("--detailed", help="All columns (also with -o wide).")]
_MISSING: Final = "n/a"
# Mounts whose leases are not configurable show no TTL.
_WITHOUT_TTL: Final = frozenset({"system", "ns_system", "cubbyhole", "ns_cubbyhole"})

_FIELDS: Final[dict[str, object]] = {
    **dict.fromkeys(("uuid", "type", "description", "accessor"), ""),
    "config": None,
    "options": None,
    "local": False,
    "seal_wrap": False,
    "external_entropy_access": False,
    "plugin_version": "",
    "running_plugin_version": "",
    "running_sha256": "",
    "deprecation_status": "",
}
_CONFIG: Final = {"default_lease_ttl": 0, "max_lease_ttl": 0, "force_no_cache": False}


@command(secrets_app, "list")
async def list_secrets(cli: Cli, *, detailed: Detailed = False) -> Verdict:
    """List the secrets engines."""
    with doing("listing secrets engines"):
        answer = await cli.call("GET", "sys/mounts")
    cli.emit(_document(mount_entries(answer), _SECRETS_COLUMNS, _engine_row, detailed=detailed))
    return Verdict.OK


@command(secrets_app, "enable")
async def enable(
    cli: Cli,
    *,
    kind: Annotated[str, typer.Argument(metavar="TYPE", help="kv, or kv-v2.")],
    path: Annotated[
        str, typer.Option("--path", metavar="PATH", help="Where; the TYPE without this.")
    ] = "",
    description: Annotated[
        str, typer.Option("--description", metavar="TEXT", help="Shown in lists.")
    ] = "",
    version: Annotated[
        int, typer.Option("--version", metavar="N", min=0, help="Of the engine: 1 or 2 for kv.")
    ] = 0,
    options: Annotated[
        list[str] | None,
        typer.Option("--options", metavar="KEY=VALUE", help="Of the engine; repeatable."),
    ] = None,
    default_lease_ttl: Annotated[
        str, typer.Option("--default-lease-ttl", metavar="TIME", help="0s is the server's.")
    ] = "0s",
    max_lease_ttl: Annotated[
        str, typer.Option("--max-lease-ttl", metavar="TIME", help="0s is the server's.")
    ] = "0s",
    local: Annotated[bool, typer.Option("--local", help="Mark it as local.")] = False,
) -> Verdict:
    """Enable a secrets engine."""
    kind = kind.strip()
    where = (path.strip() or kind).rstrip("/")
    if not kind or not where.strip("/"):
        raise UsageFailed("the type or the path is empty")
    engine_options = dict(pairs(options or [], what="--options"))
    if version:
        engine_options["version"] = str(version)
    body: dict[str, object] = {
        "type": kind,
        "description": description,
        "config": {
            "default_lease_ttl": f"{duration_s(default_lease_ttl, what='--default-lease-ttl'):g}s",
            "max_lease_ttl": f"{duration_s(max_lease_ttl, what='--max-lease-ttl'):g}s",
            "force_no_cache": False,
        },
        "local": local,
        "options": engine_options or None,
    }
    with doing("enabling"):
        answer = await cli.call("POST", f"sys/mounts/{where.strip('/')}", body=body)
    show_warnings(cli, answer)
    cli.out.say(f"Success! Enabled the {one_line(kind)} secrets engine at: {one_line(where)}/")
    return Verdict.OK


@command(secrets_app, "disable")
async def disable(
    cli: Cli, *, path: Annotated[str, typer.Argument(metavar="PATH", help="Where it is mounted.")]
) -> Verdict:
    """Disable a secrets engine; all data in it is deleted."""
    where = path.strip().strip("/")
    if not where:
        raise UsageFailed("the path is empty")
    with doing(f"disabling secrets engine at {one_line(where)}/"):
        await cli.call("DELETE", f"sys/mounts/{where}")
    cli.out.say(f"Success! Disabled the secrets engine (if it existed) at: {one_line(where)}/")
    return Verdict.OK


@command(auth_app, "list")
async def list_auth(cli: Cli, *, detailed: Detailed = False) -> Verdict:
    """List the auth methods."""
    with doing("listing enabled authentications"):
        answer = await cli.call("GET", "sys/auth")
    cli.emit(_document(mount_entries(answer), _AUTH_COLUMNS, _method_row, detailed=detailed))
    return Verdict.OK


def mount_entries(answer: Answer) -> dict[str, dict[str, object]]:
    """Return path and description of each mount; some servers wrap them in "data"."""
    body = answer.mapping()
    found = as_mapping(body.get("data")) or body
    return {
        path: _complete(mount)
        for path in sorted(found)
        if path.endswith("/") and (mount := as_mapping(found[path]))
    }


def _complete(mount: dict[str, object]) -> dict[str, object]:
    """Return a mount with every field that `bao` shows, in its order."""
    config = as_mapping(mount.get("config"))
    return {
        **{name: mount.get(name, default) for name, default in _FIELDS.items()},
        **mount,
        "config": {**{name: config.get(name, value) for name, value in _CONFIG.items()}, **config},
    }


Row = Callable[[str, Mapping[str, object]], tuple[list[str], list[str]]]
_COMMON: Final = ("UUID", "Version", "Running Version", "Running SHA256", "Deprecation Status")
_FLAGS: Final = ("Replication", "Seal Wrap", "External Entropy Access", "Options", "Description")
_SECRETS_COLUMNS: Final = (
    ("Path", "Type", "Accessor", "Description"),
    ("Path", "Plugin", "Accessor", "Default TTL", "Max TTL", "Force No Cache", *_FLAGS, *_COMMON),
)
_AUTH_COLUMNS: Final = (
    ("Path", "Type", "Accessor", "Description", "Version"),
    ("Path", "Plugin", "Accessor", "Default TTL", "Max TTL", "Token Type", *_FLAGS, *_COMMON),
)


def _document(
    mounts: Mapping[str, Mapping[str, object]],
    columns: tuple[tuple[str, ...], tuple[str, ...]],
    row: Row,
    *,
    detailed: bool,
) -> Document:
    brief, full = columns

    def table(wide: bool) -> str:
        is_full = wide or detailed
        rows = [row(path, mount)[is_full] for path, mount in mounts.items()]
        return dashed_table([full if is_full else brief, *rows])

    return Document(
        {path: dict(mount) for path, mount in mounts.items()},
        table,
        rows=[brief, *(row(path, mount)[0] for path, mount in mounts.items())],
        names=[one_line(path) for path in mounts],
        records=[{"path": path, **mount} for path, mount in mounts.items()],
    )


def _engine_row(path: str, mount: Mapping[str, object]) -> tuple[list[str], list[str]]:
    kind = as_text(mount.get("type"))
    config = as_mapping(mount.get("config"))
    brief = [path, kind, as_text(mount.get("accessor")), as_text(mount.get("description"))]
    ttls = _ttls(config, has_ttl=kind not in _WITHOUT_TTL)
    no_cache = value_text(bool(config.get("force_no_cache")))
    return _cells(brief), _cells([*brief[:3], *ttls, no_cache, *_last_cells(mount)])


def _method_row(path: str, mount: Mapping[str, object]) -> tuple[list[str], list[str]]:
    config = as_mapping(mount.get("config"))
    first = [path, as_text(mount.get("type")), as_text(mount.get("accessor"))]
    brief = [*first, as_text(mount.get("description")), as_text(mount.get("plugin_version"))]
    ttls = _ttls(config, has_ttl=True)
    token_type = as_text(config.get("token_type"))
    return _cells(brief), _cells([*first, *ttls, token_type, *_last_cells(mount)])


def _ttls(config: Mapping[str, object], *, has_ttl: bool) -> list[str]:
    if not has_ttl:
        return [_MISSING, _MISSING]
    values = [as_int(config.get(name)) or 0 for name in ("default_lease_ttl", "max_lease_ttl")]
    return [str(value) if value else "system" for value in values]


def _last_cells(mount: Mapping[str, object]) -> list[str]:
    names = ("uuid", "plugin_version", "running_plugin_version", "running_sha256")
    return [
        "local" if mount.get("local") else "replicated",
        value_text(bool(mount.get("seal_wrap"))),
        value_text(bool(mount.get("external_entropy_access"))),
        value_text(as_mapping(mount.get("options"))),
        as_text(mount.get("description")),
        *(as_text(mount.get(name)) for name in (*names, "deprecation_status")),
    ]


def _cells(texts: list[str]) -> list[str]:
    return [one_line(printable(cell_text(text))) for text in texts]
