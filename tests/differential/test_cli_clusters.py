"""
The cluster commands against real clusters: three `bao` nodes over raft, and three of baoha.

On a healthy cluster of either kind nothing is found; a step-down is watched to its end.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.cli_lab import Ran
from tests.support.forked_cli import run_forked

pytestmark = pytest.mark.differential

BAO = shutil.which("bao", path=str(Path(sys.executable).parent)) or "bao"
BAOHA = [sys.executable, "-m", "baoha_cli"]
READY_S = 60.0


@dataclass
class Cluster:
    """Three running nodes."""

    kind: str
    urls: list[str]
    token: str
    home: Path

    def baoha(self, *argv: str, token: bool = True) -> Ran:
        """Run our command against all three nodes."""
        environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "BAO_ADDR": ",".join(self.urls),
        }
        if token:
            environ["BAO_TOKEN"] = self.token
        return run_forked(argv, environ)


def free_ports(count: int) -> list[int]:
    """Return ports that are free, each with the next one free too (the cluster port)."""
    found: list[int] = []
    while len(found) < count:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            if port > 60000 or any(abs(port - other) < 3 for other in found):
                continue
            try:
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            found.append(port)
    return found


def raft_config(home: Path, number: int, ports: list[int]) -> Path:
    port = ports[number]
    data = home / f"data{number}"
    data.mkdir()
    join = f'retry_join {{ leader_api_addr = "http://127.0.0.1:{ports[0]}" }}' if number else ""
    path = home / f"n{number}.hcl"
    path.write_text(
        f'storage "raft" {{\n path = "{data}"\n node_id = "n{number}"\n {join}\n}}\n'
        f'listener "tcp" {{\n address = "127.0.0.1:{port}"\n'
        f' cluster_address = "127.0.0.1:{port + 1}"\n tls_disable = true\n}}\n'
        f'api_addr = "http://127.0.0.1:{port}"\ncluster_addr = "https://127.0.0.1:{port + 1}"\n'
        "disable_mlock = true\n"
    )
    return path


def run_openbao(home: Path) -> Iterator[Cluster]:
    """Three `bao` nodes over raft, initialised and unsealed with our own commands."""
    ports = free_ports(3)
    environ = {"PATH": os.environ["PATH"], "HOME": str(home)}
    running = []
    for number in range(3):
        with (home / f"n{number}.log").open("wb") as log:
            argv = [BAO, "server", f"-config={raft_config(home, number, ports)}"]
            running.append(subprocess.Popen(argv, stdout=log, stderr=log, env=environ))
    cluster = Cluster("openbao", [f"http://127.0.0.1:{port}" for port in ports], "", home)
    try:
        first = Cluster("openbao", cluster.urls[:1], "", home)
        answers = first.baoha("wait", "--for=nodes=1", "--deadline=30s")
        assert answers.code == 0, answers.err
        made = json.loads(first.baoha("operator", "init", "-n=1", "-t=1", "-format=json").out)
        [key] = made["unseal_keys_b64"]
        cluster.token = made["root_token"]
        for url in cluster.urls:  # a node joins the leader that is unsealed before it
            one = Cluster("openbao", [url], "", home)
            assert one.baoha("wait", "--for=initialized", "--deadline=60s").code == 0
            assert one.baoha("operator", "unseal", key).code == 0
        ready = cluster.baoha("wait", "--for=ready", "--deadline=90s", "--stable-for=2s")
        assert ready.code == 0, ready.err
        wait_voters(cluster)
        yield cluster
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(30)


def wait_voters(cluster: Cluster) -> None:
    """A raft node may vote only after a while; before that nobody could take over."""
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        listed = cluster.baoha("operator", "raft", "list-peers").out
        if len(re.findall(r"\btrue$", listed, re.M)) == 3:
            return
        time.sleep(0.5)
    raise AssertionError(f"not all nodes became voters:\n{listed}")


def run_baoha(home: Path) -> Iterator[Cluster]:
    """Three baoha nodes, as `baoha server --dev-ha 3` makes them."""
    argv = [*BAOHA, "server", "--dev-ha=3", "--dev-ha-port=0", "--dev-root-token-id=root"]
    log_path = home / "dev-ha.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [*argv, f"--dev-ha-dir={home / 'cluster'}"],
            stdout=log,
            stderr=log,
            env={"PATH": os.environ["PATH"], "HOME": str(home)},
        )
    try:
        until = time.monotonic() + READY_S
        while "cluster is ready" not in log_path.read_text():
            assert process.poll() is None, log_path.read_text()
            assert time.monotonic() < until, log_path.read_text()
            time.sleep(0.1)
        urls = re.findall(r"^ +node\d +(http://\S+)", log_path.read_text(), re.M)
        yield Cluster("baoha", urls, "root", home)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)


@pytest.fixture(scope="module", params=["openbao", "baoha"])
def cluster(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    """A cluster of each kind."""
    home = tmp_path_factory.mktemp(str(request.param))
    yield from (run_openbao(home) if request.param == "openbao" else run_baoha(home))


def test_status_of_healthy_cluster_finds_nothing_without_a_token(cluster: Cluster) -> None:
    ran = cluster.baoha(
        "status", "--expect=ready,one-leader,forwarding,same-version,nodes=3", token=False
    )
    data = json.loads(cluster.baoha("status", "-o", "json", token=False).out)
    assert ran.code == 0, ran.out + ran.err
    assert data["findings"] == []
    assert sorted(node["role"] for node in data["nodes"]) == ["active", "standby", "standby"]
    assert sorted(node["standby_link"] for node in data["nodes"]) == ["forward", "forward", "self"]
    assert all(abs(node["clock_skew_ms"]) <= 1500 for node in data["nodes"])


def test_leader_members_and_topology_agree(cluster: Cluster) -> None:
    leader = cluster.baoha("leader")
    assert leader.code == 0, leader.err
    assert leader.out.strip() in cluster.urls
    members = json.loads(cluster.baoha("cluster", "members", "-o", "json").out)["members"]
    assert {item["addr"] for item in members} == set(cluster.urls)
    topology = json.loads(cluster.baoha("cluster", "topology", "-o", "json").out)
    assert topology["agrees"] is True


def test_step_down_with_wait_moves_the_leader(cluster: Cluster) -> None:
    before = cluster.baoha("leader").out.strip()
    ran = cluster.baoha("step-down", "--wait", "--yes", "--max-gap=30s", "-o", "json")
    assert ran.code == 0, ran.out + ran.err
    data = json.loads(ran.out)
    assert data["not_following"] == []
    assert data["new_leader"] != data["old_leader"]
    if cluster.kind == "baoha":
        assert data["probes_failed"] == 0
    assert cluster.baoha("wait", "--for=ready", "--deadline=30s").code == 0
    assert cluster.baoha("leader").out.strip() != before


def test_step_down_to_a_chosen_node_needs_baoha(cluster: Cluster) -> None:
    leader = cluster.baoha("leader").out.strip()
    to = next(url for url in cluster.urls if url != leader)
    ran = cluster.baoha("step-down", "--wait", "--yes", f"--to={to}")
    if cluster.kind == "openbao":
        assert ran.code == 64
        assert cluster.baoha("leader").out.strip() == leader
    else:
        assert ran.code == 0, ran.err
        assert cluster.baoha("leader").out.strip() == to


def test_history_tells_the_leader_and_that_the_past_is_unknown(cluster: Cluster) -> None:
    ran = cluster.baoha("cluster", "history", "-o", "json", token=False)
    data = json.loads(ran.out)
    assert ran.code == 1
    assert [tenure["addr"] for tenure in data["known"]] == [cluster.baoha("leader").out.strip()]
    assert 0 <= data["known"][0]["for_s"] < 600
    assert data["earlier"] is None


def test_engines_are_enabled_listed_and_disabled(cluster: Cluster) -> None:
    # A standby of OpenBao answers lists itself, a moment behind.
    leader = cluster.baoha("leader").out.strip()
    active = Cluster(cluster.kind, [leader], cluster.token, cluster.home)
    made = active.baoha("secrets", "enable", "-path=team/kv", "-version=1", "kv")
    assert (made.code, made.out) == (0, "Success! Enabled the kv secrets engine at: team/kv/\n")
    listed = json.loads(active.baoha("secrets", "list", "-o", "json").out)
    assert listed["team/kv/"]["type"] == "kv"
    assert "sys/" in listed
    assert "token/" in active.baoha("auth", "list", "-o", "name").out.split()
    assert active.baoha("secrets", "disable", "team/kv").code == 0
    assert "team/kv/" not in active.baoha("secrets", "list", "-o", "name").out.split()


def test_kv_through_every_node_reads_what_was_written(cluster: Cluster) -> None:
    if cluster.kind == "openbao":
        cluster.baoha("write", "sys/mounts/secret", "type=kv-v2")
        time.sleep(1)  # the upgrade of a new mount to version 2 takes a moment
    for number, url in enumerate(cluster.urls):
        one = Cluster(cluster.kind, [url], cluster.token, cluster.home)
        put = one.baoha("kv", "put", "secret/app", f"n={number}")
        assert put.code == 0, put.err
        for other in cluster.urls:
            reader = Cluster(cluster.kind, [other], cluster.token, cluster.home)
            # Ours reads what was written, at once; a standby of OpenBao answers a moment behind.
            until = time.monotonic() + (0 if cluster.kind == "baoha" else READY_S)
            got = reader.baoha("kv", "get", "-field=n", "secret/app")
            while got.out != str(number) and time.monotonic() < until:
                time.sleep(0.2)
                got = reader.baoha("kv", "get", "-field=n", "secret/app")
            assert got.out == str(number), got.err
