"""
`baoha status` and `baoha diagnose all`, asked about the same misconfiguration, say the same.

Rule of this file: no case has an exception, but the one that mends itself while it is looked at.
"""

from __future__ import annotations

import json

import pytest

from baoha.diagnostics.catalogue import CODES
from baoha.diagnostics.code import Seen
from tests.diagnosis.cases import CASES
from tests.diagnosis.world import World
from tests.support.cli_lab import CommandLine

# Options of `diagnose` that `status` does not have: other places to look at, or from.
_ONLY_DIAGNOSE = frozenset({"--via", "--from", "--token-file"})
# Options that change what counts: here everything does, as it is without options.
_CHOICES = frozenset({"--skip", "--fail-on", "--slow"})
_IN_A_ROUND = frozenset({Seen.LOOK, Seen.PROBE})
# Nobody leads at the first look, and somebody does at the next: there is no same state to compare.
_STEADY = [name for name in CASES if name != "an election"]


def without(options: list[str], names: frozenset[str]) -> list[str]:
    """Return options, each with one value, without some of them."""
    pairs = zip(options[::2], options[1::2], strict=True)
    return [word for pair in pairs if pair[0] not in names for word in pair]


@pytest.mark.parametrize("name", _STEADY)
def test_status_of_misconfiguration_agrees_with_diagnose(
    name: str, world: World, cli: CommandLine
) -> None:
    """
    Goal: whoever looks at a fault with `status` reads nothing that `diagnose` denies or hides.

    Method: both look at each scripted case. What `status` names, `diagnose` names; what `diagnose`
    finds at a node that both ask, by what `status` can see too, `status` names; and only faults
    that `status` cannot see make one call "ok" what the other does not.
    """
    extra = without(CASES[name].build(world), _CHOICES)
    if "--addr" not in extra:
        extra = ["--addr", world.addresses(), *extra]
    status = json.loads(cli("status", "-o", "json", *without(extra, _ONLY_DIAGNOSE)).out)
    ran = cli("diagnose", "all", "--settle", "300ms", "-o", "json", *extra)
    diagnosis = json.loads(ran.out)
    found = {item["code"] for item in diagnosis["findings"]}
    if "cluster" not in status:  # one node is shown as `bao status` shows it, without a judgement
        assert not [code for code in found if CODES[code].seen_in & _IN_A_ROUND]
        return
    labels = {node["node"] for node in status["nodes"]}
    seen_alike = {
        item["code"]
        for item in diagnosis["findings"]
        if CODES[item["code"]].seen_in & _IN_A_ROUND
        and (not item["node"] or item["node"].partition(" -> ")[0] in labels)
    }
    named = {item["code"] for item in status["findings"]}
    assert seen_alike <= named <= found
    verdict, other = status["cluster"]["verdict"], diagnosis["verdict"]
    if {verdict, other} & {"sealed", "uninitialized"}:
        assert verdict == other
    beyond = [item for item in diagnosis["findings"] if item["code"] not in seen_alike]
    if verdict == "ok" and any(item["severity"] == "error" for item in beyond):
        return
    assert (verdict == "ok") is (other == "ok")
