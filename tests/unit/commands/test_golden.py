"""
Every format of the documents that people script against, byte for byte.

The expected texts are files in tests/golden/cli, one per command and format; addresses of this run
read NODE0, NODE1, ... there. After a wanted change: write the new text, and read the difference.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.cli_lab import (
    ACTIVE,
    STANDBY,
    CommandLine,
    Script,
    ScriptedServer,
    active_node,
    nodes,
    standby_node,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "cli"
FORMATS = ("table", "wide", "json", "yaml", "ndjson", "tsv", "name")
MOUNTS = {
    "secret/": {
        "uuid": "8c13e7f9-269a-02fe-ab21-b76f86f377d5",
        "type": "kv",
        "description": "key/value secret storage",
        "accessor": "kv_5f951f54",
        "config": {"default_lease_ttl": 3600, "max_lease_ttl": 0, "force_no_cache": False},
        "options": {"version": "2"},
    },
    "sys/": {"type": "system", "accessor": "system_9cb6d3bf", "seal_wrap": True, "local": True},
}
COMMANDS = {
    "status-cluster": ("status",),
    "topology": ("cluster", "topology"),
    "members": ("cluster", "members"),
    "leader": ("leader",),
    "history": ("cluster", "history"),
    "secrets-list": ("secrets", "list"),
    "policy-list": ("policy", "list"),
    "wait": ("wait", "--for=one-leader"),
}
# Commands that have no names to print say so.
WITHOUT_NAMES = {"topology", "wait"}


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> CommandLine:
    return CommandLine(monkeypatch, capfdbinary, str(tmp_path))


def cluster() -> tuple[Script, Script]:
    """An active node and a standby that name the same leader, at an address of no machine."""
    address = {"leader_address": "http://leader.example:8200"}
    active = active_node(
        sys__leader=(200, {**ACTIVE, **address}),
        sys__mounts=(200, {**MOUNTS, "request_id": "x", "data": MOUNTS}),
        sys__policies__acl=(200, {"data": {"keys": ["default", "root"]}}),
    )
    return active, standby_node({**STANDBY, **address})


def steady(text: str, opened: list[ScriptedServer]) -> str:
    """Blank out what differs from run to run: ports, and what is measured."""
    for number, node in enumerate(opened):
        text = text.replace(f"http://127.0.0.1:{node.port}", f"http://NODE{number}")
        text = text.replace(f"127.0.0.1:{node.port}", f"NODE{number}")
    text = re.sub(r"(latency_ms|elapsed_s|for_s)(\"?): [\d.]+", r"\1\2: 0", text)
    text = re.sub(r"\b\d+ms\b", "0ms", text)
    text = re.sub(r"after [\d.]+s", "after 0.0s", text)
    text = re.sub(r"^elapsed_s\t[\d.]+$", "elapsed_s\t0", text, flags=re.M)
    text = re.sub(r"(Z(?:\t| +))(?:\d+[hms])+$", r"\g<1>0s", text, flags=re.M)
    # Columns are as wide as the ports of this run.
    return re.sub(r"(?<=\S)  +", "  ", text)


@pytest.mark.parametrize("shape", FORMATS)
@pytest.mark.parametrize("name", COMMANDS)
def test_output_is_the_recorded_one(cli: CommandLine, name: str, shape: str) -> None:
    path = GOLDEN / f"{name}.{shape}"
    with nodes(*cluster()) as opened:
        address = ",".join(node.url for node in opened)
        ran = cli(*COMMANDS[name], "-o", shape, f"-address={address}")
        text = steady(ran.out, opened)
    if shape == "name" and name in WITHOUT_NAMES:
        assert (ran.code, ran.out) == (64, "")
        return
    assert text == path.read_text(encoding="utf-8")


def test_every_recorded_text_is_compared() -> None:
    compared = {f"{name}.{shape}" for name in COMMANDS for shape in FORMATS}
    compared -= {f"{name}.name" for name in WITHOUT_NAMES}
    assert {path.name for path in GOLDEN.iterdir()} == compared
