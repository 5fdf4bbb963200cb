"""`baoha drill` against real clusters: what clients notice of a step-down and of a crash."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from testbed.clusters import Cluster
from tests.diagnosis.real import RealLab
from tests.diagnosis.world import World
from tests.support.cli_lab import CommandLine

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

QUICK = ["--warmup", "500ms", "--calm", "500ms", "--interval", "50ms"]


def given(cluster: Cluster, folder: Path) -> list[str]:
    token = folder / "token"
    token.write_text(cluster.root_token)
    nodes = ",".join(node.address for node in cluster.nodes)
    return ["--i-know", "--addr", nodes, "--token-file", str(token), *QUICK]


@pytest.mark.parametrize("kind", ["baoha-sqlite", "openbao-raft"])
def test_step_down_is_measured_through_every_node(
    kind: str, lab: RealLab, cli: CommandLine, tmp_path: Path
) -> None:
    cluster = lab.cluster(kind)
    report = tmp_path / "drill.xml"
    extra = ["--max-gap", "15s", "--report", f"junit={report}", "-o", "json"]
    ran = cli("drill", "step-down", *given(cluster, tmp_path), *extra)
    assert ran.code == 0, ran.err
    data = json.loads(ran.out)
    assert data["schema"] == "baoha.drill/v1"
    assert data["new_leader"] != data["old_leader"]
    assert [node["lost"] for node in data["nodes"]] == [0, 0, 0]
    assert [node["duplicated"] for node in data["nodes"]] == [0, 0, 0]
    assert all(node["acknowledged"] > 5 for node in data["nodes"])
    root = ElementTree.fromstring(report.read_text())
    assert root.get("failures") == "0"
    # Its keys are gone.
    listed = lab.run(list_secrets, cluster)
    assert not [name for name in listed if name.startswith("baoha-drill")]


async def list_secrets(cluster: Cluster) -> list[str]:
    active = await cluster.wait_active()
    answer = await active.call("LIST", "/v1/secret/metadata", token=cluster.root_token)
    return answer.json()["data"]["keys"]  # type: ignore[no-any-return]


def test_crash_of_leader_is_measured_and_the_gap_is_judged(
    lab: RealLab, cli: CommandLine, tmp_path: Path
) -> None:
    cluster = lab.cluster("baoha-sqlite")
    active = lab.run(cluster.wait_active)
    kill = ["--kill", f"kill -9 {active.pid}", "--max-gap", "1ms"]
    ran = cli("drill", "failover", *given(cluster, tmp_path), *kill, "-o", "json")
    data = json.loads(ran.out)
    # A takeover may fall between two writes: then there is no gap to judge.
    has_gap = data["gap_s"] > 0.001
    assert ran.code == int(has_gap)
    assert [item["test"] for item in data["problems"]] == ["gap"] * has_gap
    assert [node["broken"] for node in data["nodes"]].count(True) == 1
    lab.run(active.process.wait)
    lab.run(cluster.start_node, active)


def test_drill_without_consent_touches_nothing(world: World, cli: CommandLine) -> None:
    world.cluster()
    cli.setenv("BAO_TOKEN", "s.SomeToken")
    for action in ("failover", "step-down"):
        ran = cli("drill", action, "--addr", world.addresses())
        assert ran.code == 64
        assert "--i-know" in ran.err
    assert not [one for node in world.nodes for one in node.fake.seen]


def test_drill_without_token_is_refused(world: World, cli: CommandLine) -> None:
    world.cluster()
    assert cli("drill", "step-down", "--i-know", "--addr", world.addresses()).code == 7


def test_drill_breaks_nothing_when_writes_fail_already(world: World, cli: CommandLine) -> None:
    world.cluster()
    marker = world.folder / "broken"
    cli.setenv("BAO_TOKEN", "s.SomeToken")
    kill = ["--kill", f"touch {marker}"]
    ran = cli("drill", "failover", "--i-know", "--addr", world.addresses(), *kill, *QUICK)
    assert ran.code == 1
    assert "nothing was broken" in ran.err
    assert not marker.exists()


def test_drill_refuses_a_cluster_without_leader(world: World, cli: CommandLine) -> None:
    active, *_ = world.cluster()
    active.role, active.leader = "standby", None
    cli.setenv("BAO_TOKEN", "s.SomeToken")
    ran = cli("drill", "step-down", "--i-know", "--addr", world.addresses(), *QUICK)
    assert ran.code == 1
    assert "nothing was broken" in ran.err
