"""
The four lines that a CI job uses, as they stand in examples/ops, against a real baoha cluster.

Goal: what the documentation tells people to paste into a pipeline works, with the exit codes it
promises. Method: a development cluster of three processes, and the commands as a shell runs them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).resolve().parents[2]
BAOHA = str(Path(sys.executable).parent / "baoha")
START_S = 60.0


@dataclass(frozen=True)
class DevCluster:
    """Three nodes, ready."""

    addresses: str
    environment: dict[str, str]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one command as a CI job does: no terminal, token in the environment."""
        return subprocess.run(
            [BAOHA, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=150,
            stdin=subprocess.DEVNULL,
            check=False,
        )


@pytest.fixture
def dev_cluster(tmp_path: Path) -> Iterator[DevCluster]:
    folder = tmp_path / "cluster"
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("BAO", "VAULT"))},
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
    }
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen(
            [BAOHA, "server", "--dev-ha=3", "--dev-ha-port=0", f"--dev-ha-dir={folder}"],
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            give_up_at = time.monotonic() + START_S
            while "cluster is ready" not in (tmp_path / "output").read_text():
                assert process.poll() is None, (tmp_path / "output").read_text()
                assert time.monotonic() < give_up_at, (tmp_path / "output").read_text()
                time.sleep(0.1)
            found = json.loads((folder / "cluster.json").read_text())
            addresses = ",".join(node["address"] for node in found["nodes"])
            environment["BAO_TOKEN"] = found["root_token"]
            yield DevCluster(addresses, environment)
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0


def test_ci_lines_on_a_healthy_cluster_all_pass(dev_cluster: DevCluster, tmp_path: Path) -> None:
    examples = sorted(str(path) for path in (ROOT / "examples").glob("*.toml"))
    configs = [argument for path in examples for argument in ("--config", path)]
    for one in range(0, len(configs), 2):
        checked = dev_cluster.run("diagnose", "config", *configs[one : one + 2], "-o", "github")
        assert checked.returncode == 0, checked

    nodes = ("--addr", dev_cluster.addresses)
    ready = dev_cluster.run("wait", "--for", "ready", *nodes, "--deadline", "120s")
    assert ready.returncode == 0, ready

    report = tmp_path / "ha.xml"
    balancer = dev_cluster.addresses.split(",")[0]
    found = dev_cluster.run(
        "diagnose",
        "addresses",
        *nodes,
        "--via",
        balancer,
        "--report",
        f"junit={report}",
        "--fail-on",
        "error",
    )
    assert found.returncode == 0, found
    suites = ElementTree.parse(report).getroot()
    assert suites.tag in ("testsuites", "testsuite")
    assert not suites.findall(".//failure")

    switched = dev_cluster.run("step-down", *nodes, "--wait", "--yes", "--max-gap", "5s")
    assert switched.returncode == 0, switched
