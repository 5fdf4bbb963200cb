"""
`baoha storage`: the stores that are installed on this machine, and what they can do.

Rule of this file: it prints rows (`StoreType`) and opens nothing; no server is asked.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING

from baoha_cli.exits import Verdict
from baoha_cli.output.documents import Document
from baoha_cli.output.gotext import plain_table
from baoha_cli.shell.command import command, new_group
from baoha_cli.shell.context import Cli
from baoha_cli.text import one_line

if TYPE_CHECKING:
    from baoha.storage.store_type import StoreType

app = new_group("storage", "List the stores that a server can use.")


@app.callback()
def _storage() -> None:
    """Keep `storage` a group although it has one command only."""


@command(app, "list")
def list_(cli: Cli) -> Verdict:
    """List the installed stores: capabilities, limits and settings."""
    from baoha.errors import ConfigError
    from baoha.storage.registry import load_type, store_names

    found: list[StoreType] = []
    for name in store_names():
        try:
            found.append(load_type(name))
        except ConfigError as error:
            cli.out.note(f"WARNING {one_line(str(error))}")
    rows = [
        (row.name, ", ".join(_capabilities(row)) or "none", one_line(row.summary)) for row in found
    ]
    settings = [
        (f"{row.name}.{setting.key}", setting.kind.value, setting.shown_default, setting.doc)
        for row in found
        for setting in row.settings
    ]
    lines = [("STORE", "CAPABILITIES", "WHAT IT IS"), *rows]

    def table(_: bool) -> str:
        parts = [plain_table(lines, gap=2)]
        if settings:
            header = ("SETTING", "KIND", "DEFAULT", "WHAT IT IS")
            parts.append(plain_table([header, *map(_printable, settings)], gap=2))
        return "\n\n".join(parts)

    data = {"schema": "baoha.storage-list/v1", "stores": [_document(row) for row in found]}
    cli.emit(Document(data, table, rows=lines, names=[row.name for row in found]))
    return Verdict.OK


def _printable(cells: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(one_line(cell) for cell in cells)


def _capabilities(row: StoreType) -> list[str]:
    return [
        field.name for field in fields(row.capabilities) if getattr(row.capabilities, field.name)
    ]


def _document(row: StoreType) -> dict[str, object]:
    return {
        "name": row.name,
        "summary": row.summary,
        "capabilities": _capabilities(row),
        "limits": asdict(row.limits),
        "lock": None if row.lock is None else asdict(row.lock),
        "settings": [
            {
                "key": setting.key,
                "kind": setting.kind.value,
                "required": setting.default is None,
                "default": setting.shown_default or None,
                "secret": setting.secret,
                "env": f"BAOHA_{setting.env}" if setting.env else None,
                "doc": setting.doc,
            }
            for setting in row.settings
        ],
    }
