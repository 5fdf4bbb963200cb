"""
`baoha status` and `baoha diagnose all`, asked about the same misconfiguration, say the same.

Rule of this file: the list of known disagreements only shrinks.
"""

from __future__ import annotations

import json

import pytest

from tests.diagnosis.cases import CASES
from tests.diagnosis.world import World
from tests.support.cli_lab import CommandLine

# Options of `diagnose` that `status` does not have; what they find or hide is theirs alone.
_ONLY_DIAGNOSE = frozenset({"--via", "--from", "--token-file"})
# Options that change what counts, for both questions left as they are by default.
_CHOICES = frozenset({"--skip", "--fail-on", "--slow"})

# Case: what status may say of it alone, since the cluster mends itself before diagnose asks.
KNOWN = frozenset({"an election"})


def without(options: list[str], names: frozenset[str]) -> list[str]:
    """Return options, each with one value, without some of them."""
    pairs = zip(options[::2], options[1::2], strict=True)
    return [word for pair in pairs if pair[0] not in names for word in pair]


@pytest.mark.parametrize("name", CASES)
def test_status_of_misconfiguration_agrees_with_diagnose(
    name: str, world: World, cli: CommandLine
) -> None:
    case = CASES[name]
    extra = without(case.build(world), _CHOICES)
    if "--addr" not in extra:
        extra = ["--addr", world.addresses(), *extra]
    status = json.loads(cli("status", "-o", "json", *without(extra, _ONLY_DIAGNOSE)).out)
    ran = cli("diagnose", "all", "--settle", "300ms", "-o", "json", *extra)
    diagnosis = json.loads(ran.out)
    named = {item["code"] for item in status.get("findings", ())}
    found = {item["code"] for item in diagnosis["findings"]}
    assert (named <= found) is (name not in KNOWN), (named, found)
