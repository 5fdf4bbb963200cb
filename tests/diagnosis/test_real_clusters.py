"""The diagnosis of real clusters: healthy ones have no finding, broken ones the right one."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest

from testbed.clusters import Cluster, RunningNode
from testbed.ports import free_ports
from tests.diagnosis.real import RealLab
from tests.support.cli_lab import CommandLine

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(180)]

NO_STANDBY_READS = {"storage": "disable_standby_reads = true\n\nstorage"}
HEALTHY = {
    "OpenBao raft": ("openbao-raft", {}),
    "OpenBao postgresql": ("openbao-postgresql", {}),
    "OpenBao raft, standby reads off": ("openbao-raft", NO_STANDBY_READS),
    "baoha sqlite": ("baoha-sqlite", {}),
}


def addresses(cluster: Cluster) -> str:
    return ",".join(node.address for node in cluster.nodes)


def codes(out: str) -> list[str]:
    return [item["code"] for item in json.loads(out)["findings"]]


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_cluster_has_no_finding_at_all(
    name: str, lab: RealLab, cli: CommandLine, tmp_path: Path
) -> None:
    kind, config = HEALTHY[name]
    cluster = lab.cluster(kind, config=config)
    token = tmp_path / "token"
    token.write_text(cluster.root_token)
    given = ["diagnose", "all", "--addr", addresses(cluster), "--fail-on", "info", "-o", "json"]
    for extra in ([], ["--token-file", str(token)]):
        ran = cli(*given, *extra)
        assert (codes(ran.out), ran.code, ran.err) == ([], 0, "")


def test_facts_of_a_healthy_cluster_are_shown_on_request(lab: RealLab, cli: CommandLine) -> None:
    cluster = lab.cluster("openbao-raft")
    ran = cli("diagnose", "all", "--addr", addresses(cluster), "--facts", "-o", "name")
    assert ran.code == 0
    assert set(ran.out.split()) == {"BH-406", "BH-407", "BH-608", "BH-909"}


def set_cluster_addr(address: str) -> object:
    def edit(node: RunningNode, text: str) -> str:
        if node.index:
            return text
        return re.sub(r'cluster_addr *= *"[^"]*"', f'cluster_addr = "{address}"', text)

    return edit


def set_api_addr(address: str) -> object:
    def edit(node: RunningNode, text: str) -> str:
        if node.index:
            return text
        return re.sub(r'api_addr *= *"[^"]*"', f'api_addr = "{address}"', text)

    return edit


def test_blocked_cluster_port_is_found_while_everything_else_is_green(
    lab: RealLab, cli: CommandLine
) -> None:
    cluster = lab.cluster("openbao-postgresql")
    lab.restart(cluster, set_cluster_addr(f"https://127.0.0.1:{free_ports(1)[0]}"))
    ran = cli("diagnose", "forwarding", "--addr", addresses(cluster), "-o", "json")
    assert (codes(ran.out), ran.code) == (["BH-401", "BH-401"], 1)
    assert {item["cause"] for item in json.loads(ran.out)["findings"]} == {"BH-601"}
    # Meanwhile everything that people usually look at is green.
    for node in cluster.nodes:
        assert cli("status", "--addr", node.address).code == 0


def misconfigured(cluster: Cluster, name: str) -> tuple[object, list[str], str]:
    """Return the edit, the codes and the cause of one real misconfiguration."""
    first = cluster.nodes[0]
    table: dict[str, tuple[object, list[str], str]] = {
        "cluster_addr is an API port": (
            set_cluster_addr(f"https://127.0.0.1:{cluster.nodes[1].port}"),
            ["BH-401", "BH-401"],
            "BH-603",
        ),
        "cluster_addr is another node's": (
            set_cluster_addr(f"https://127.0.0.1:{cluster.nodes[1].cluster_port}"),
            ["BH-401", "BH-401"],
            "BH-605",
        ),
        "clustering is disabled": (
            lambda node, text: text if node.index else f"disable_clustering = true\n{text}",
            ["BH-405"],
            "",
        ),
        "api_addr has a path": (set_api_addr(f"{first.address}/vault"), ["BH-105"], ""),
        "api_addr is closed": (
            set_api_addr(f"http://127.0.0.1:{free_ports(1)[0]}"),
            ["BH-210"],
            "",
        ),
    }
    return table[name]


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("cluster_addr is an API port", 1),
        ("cluster_addr is another node's", 1),
        ("clustering is disabled", 0),
        ("api_addr has a path", 0),
        ("api_addr is closed", 0),
    ],
)
def test_misconfigured_openbao_is_named(
    name: str, code: int, lab: RealLab, cli: CommandLine
) -> None:
    cluster = lab.cluster("openbao-postgresql")
    edit, expected, cause = misconfigured(cluster, name)
    lab.restart(cluster, edit)  # type: ignore[arg-type]
    # A closed api_addr is seen where the leader is not among the nodes given.
    nodes = cluster.nodes[1:] if name == "api_addr is closed" else cluster.nodes
    given = ",".join(node.address for node in nodes)
    ran = cli("diagnose", "all", "--addr", given, "-o", "json")
    found = json.loads(ran.out)["findings"]
    assert [item["code"] for item in found] == expected, found
    assert ran.code == code
    if cause:
        assert {item["cause"] for item in found} == {cause}


def test_api_addr_without_scheme_is_named(lab: RealLab, cli: CommandLine) -> None:
    cluster = lab.cluster("openbao-postgresql")

    def edit(node: RunningNode, text: str) -> str:
        if node.index:
            return text
        text = re.sub(r'cluster_addr *= *"[^"]*"', "", text)
        return re.sub(r'api_addr *= *"[^"]*"', f'api_addr = "localhost:{node.port}"', text)

    lab.restart(cluster, edit)
    ran = cli("diagnose", "all", "--addr", addresses(cluster), "-o", "json")
    assert (codes(ran.out), ran.code) == (["BH-102"], 1)


def test_disabled_clustering_of_baoha_is_named(lab: RealLab, cli: CommandLine) -> None:
    cluster = lab.cluster("baoha-sqlite")
    port = free_ports(1)[0]
    lab.restart(cluster, set_cluster_addr(f"https://127.0.0.1:{port}"))
    ran = cli("diagnose", "all", "--addr", addresses(cluster), "-o", "json")
    found = json.loads(ran.out)["findings"]
    assert [item["code"] for item in found] == ["BH-401", "BH-401"], found
    assert {item["cause"] for item in found} == {"BH-601"}
    lab.restart(cluster)


async def _start(node: RunningNode) -> None:
    # In the lab's thread: the kernel ends the process with the thread that started it.
    node.start()


def test_sealed_standby_is_named(lab: RealLab, cli: CommandLine) -> None:
    cluster = lab.cluster("baoha-sqlite")
    node = next(one for one in cluster.nodes if one is not lab.run(cluster.wait_active))
    lab.run(node.terminate)
    lab.run(_start, node)
    lab.run(cluster.wait_listening, node)
    ran = cli("diagnose", "all", "--addr", addresses(cluster), "--fail-on", "warning", "-o", "json")
    assert (codes(ran.out), ran.code) == (["BH-316"], 1)
    lab.run(cluster.unseal, node)
    lab.run(cluster.wait_ready, node)


def test_stopped_standby_is_named(lab: RealLab, cli: CommandLine) -> None:
    cluster = lab.cluster("openbao-raft")
    active = lab.run(cluster.wait_active)
    node = next(one for one in cluster.nodes if one is not active)
    lab.run(node.terminate)
    ran = cli("diagnose", "all", "--addr", addresses(cluster), "-o", "json")
    assert (codes(ran.out), ran.code) == (["BH-205"], 1)
    lab.run(cluster.start_node, node)


def test_killed_leader_is_named(lab: RealLab, cli: CommandLine) -> None:
    cluster = lab.cluster("openbao-postgresql")
    lab.restart(cluster)
    first = cluster.nodes[0]
    lab.run(first.kill)
    ran = cli("diagnose", "all", "--addr", addresses(cluster), "-o", "json")
    assert (codes(ran.out), ran.code) == (["BH-306", "BH-306"], 1)
    lab.run(cluster.start_node, first)


def test_frozen_leader_is_named(lab: RealLab, cli: CommandLine) -> None:
    cluster = lab.cluster("openbao-postgresql")
    lab.restart(cluster)
    for node in cluster.nodes:
        lab.run(cluster.wait_ready, node)
    active = lab.run(cluster.wait_active)
    active.send(signal.SIGSTOP)
    try:
        given = ["--addr", addresses(cluster), "--timeout", "1s"]
        ran = cli("diagnose", "forwarding", *given, "-o", "json")
    finally:
        active.send(signal.SIGCONT)
    assert (codes(ran.out), ran.code) == (["BH-402", "BH-402"], 1)


def test_two_clusters_are_told_apart(lab: RealLab, cli: CommandLine) -> None:
    first = lab.cluster("openbao-raft")
    second = lab.cluster("openbao-raft", config=NO_STANDBY_READS)
    given = f"{addresses(first)},{second.nodes[0].address}"
    ran = cli("diagnose", "all", "--addr", given, "-o", "name")
    assert (ran.code, ran.out.split()) == (1, ["BH-311"])
