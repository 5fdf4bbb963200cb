"""
The seal status of one node, as a document and as `bao status` prints it.

Rule of this file: it is pure. Field order, names and "n/a" are `bao`'s; fields that a server adds
(of later versions, or ours) come after them in JSON and are not in the table.

Source: `bao status` 2.7.2, in all states of a node.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from baoha_cli.output.documents import Document
from baoha_cli.output.gotext import cell_text, key_value_table
from baoha_cli.text import one_line

_SEAL_FIELDS: Final = (
    ("type", ""),
    ("initialized", False),
    ("sealed", True),
    ("t", 0),
    ("n", 0),
    ("progress", 0),
    ("nonce", ""),
    ("version", ""),
    ("commit_date", ""),
    ("migration", False),
    ("cluster_name", None),
    ("cluster_id", None),
    ("recovery_seal", False),
    ("storage_type", ""),
    ("build_date", ""),
)
_LEADER_FIELDS: Final = (
    "is_self",
    "active_time",
    "leader_address",
    "leader_cluster_address",
    "raft_committed_index",
    "raft_applied_index",
)


def seal_data(
    seal: Mapping[str, object], leader: Mapping[str, object], ha_enabled: bool | None
) -> dict[str, object]:
    """
    Return the data of `status -format=json`.

    Args:
        seal: body of sys/seal-status.
        leader: body of sys/leader, {} when there is none.
        ha_enabled: None leaves it false, as `bao` does.
    """
    data: dict[str, object] = {}
    for name, default in _SEAL_FIELDS:
        value = seal.get(name, default)
        if value is not None:
            data[name] = value
    data["ha_enabled"] = bool(ha_enabled)
    if not seal.get("sealed"):
        for name in _LEADER_FIELDS:
            value = leader.get(name)
            if value and not (name == "active_time" and str(value).startswith("0001-")):
                data[name] = value
    return data


def seal_rows(data: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return the rows of the table."""
    recovery = bool(data.get("recovery_seal"))
    prefix = "Recovery " if recovery else ""
    rows = [("Recovery Seal Type" if recovery else "Seal Type", data.get("type"))]
    rows += [("Initialized", data.get("initialized")), ("Sealed", data.get("sealed"))]
    rows += [(f"Total {prefix}Shares", data.get("n")), ("Threshold", data.get("t"))]
    if data.get("sealed"):
        progress = f"{cell_text(data.get('progress'))}/{cell_text(data.get('t'))}"
        rows += [("Unseal Progress", progress), ("Unseal Nonce", data.get("nonce"))]
    if data.get("migration"):
        rows.append(("Seal Migration in Progress", True))
    rows += [("Version", data.get("version")), ("Commit Date", data.get("commit_date"))]
    rows.append(("Storage Type", data.get("storage_type")))
    if data.get("cluster_name"):
        rows += [("Cluster Name", data["cluster_name"]), ("Cluster ID", data.get("cluster_id"))]
    rows.append(("HA Enabled", data.get("ha_enabled")))
    if data.get("ha_enabled") and not data.get("sealed"):
        rows += _ha_rows(data)
    return [(name, one_line(cell_text("" if value is None else value))) for name, value in rows]


def seal_document(data: Mapping[str, object]) -> Document:
    """Return the document of one node."""
    return Document(
        {"schema": "baoha.seal-status/v1", **data},
        lambda _: key_value_table(seal_rows(data)),
        fields=data,
        where="seal status",
    )


def _ha_rows(data: Mapping[str, object]) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [("HA Cluster", data.get("leader_cluster_address", ""))]
    if data.get("is_self"):
        rows.append(("HA Mode", "active"))
        if data.get("active_time"):
            rows.append(("Active Since", data["active_time"]))
    else:
        rows.append(("HA Mode", "standby"))
        if data.get("leader_address"):
            rows.append(("Active Node Address", data["leader_address"]))
    if data.get("raft_committed_index"):
        rows.append(("Raft Committed Index", data["raft_committed_index"]))
    if data.get("raft_applied_index"):
        rows.append(("Raft Applied Index", data["raft_applied_index"]))
    return rows
