"""Each scripted misconfiguration: its code, its exit status, and nothing else."""

from __future__ import annotations

import json

import pytest

from tests.diagnosis.cases import CASES
from tests.diagnosis.world import World
from tests.support.cli_lab import CommandLine


@pytest.mark.parametrize("name", CASES)
def test_diagnosis_of_misconfiguration_names_it_and_only_it(
    name: str, world: World, cli: CommandLine
) -> None:
    case = CASES[name]
    extra = case.build(world)
    given = [] if "--addr" in extra else ["--addr", world.addresses()]
    ran = cli("diagnose", case.area, "--settle", "300ms", "-o", "json", *given, *extra)
    assert ran.err == ""
    data = json.loads(ran.out)
    found = [item["code"] for item in data["findings"]]
    assert found == list(case.codes), data["findings"]
    assert ran.code == case.code
    if case.cause:
        assert {item["cause"] for item in data["findings"]} == {case.cause}
