"""
Real processes: ``python -m baoha.server`` and the development modes.

Everything binds to 127.0.0.1 and a free port; every process is ended by its own pid.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
import trio

from baoha.errors import ConfigError
from baoha.server.dev.bootstrap import DevNode
from baoha.server.dev.cluster import NODES_MAX, run_dev_ha
from baoha.server.dev.single import run_dev, toml_text
from baoha.server.process import complain, say

pytestmark = pytest.mark.cluster

DEV = (
    "import sys; from baoha.server.dev.single import run_dev; "
    "sys.exit(run_dev(**eval(sys.argv[1])))"
)
DEV_HA = (
    "import sys; from pathlib import Path; from baoha.server.dev.cluster import run_dev_ha; "
    "sys.exit(run_dev_ha(3, folder=Path(sys.argv[1]), port=0, root_token='dev-root'))"
)


@contextmanager
def started(*command: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={"PATH": os.environ["PATH"]},
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def read_until(stream: IO[str] | None, text: str) -> str:
    """Return the output up to and with the first line that holds a text."""
    assert stream is not None
    seen = ""
    for line in stream:
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"{text!r} never came:\n{seen}")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def end(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> int:
    process.send_signal(number)
    return process.wait(30)


def is_running(pid: int) -> bool:
    """Return whether a process is there, and more than a zombie that nobody has buried."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


async def none_is_running(pids: list[int]) -> None:
    while any(is_running(pid) for pid in pids):  # noqa: ASYNC110 - no event tells of a grandchild
        await trio.sleep(0.05)


async def call(node: DevNode, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    with trio.fail_after(20):
        return await node.call(method, path, body, token="dev-root")


def test_server_without_configuration_is_wrong_usage() -> None:
    with started("-m", "baoha.server") as process:
        assert process.wait(30) == 64


def test_server_missing_file_is_exit_code_one(tmp_path: Path) -> None:
    with started("-m", "baoha.server", "--config", str(tmp_path / "none.toml")) as process:
        output = read_until(process.stdout, "none.toml")
        assert process.wait(30) == 1
    assert "Traceback" not in output


async def test_server_starts_answers_and_ends(tmp_path: Path) -> None:
    port = free_port()
    config = tmp_path / "a.toml"
    config.write_text(
        f'api_addr = "http://127.0.0.1:{port}"\ncluster_addr = "https://127.0.0.1:{port + 1}"\n'
        f'[storage.sqlite]\npath = "{tmp_path / "baoha.db"}"\n'
        f'[[listener.tcp]]\naddress = "127.0.0.1:{port}"\ntls_disable = true\n'
    )
    with started("-m", "baoha.server", "--config", str(config)) as process:
        banner = read_until(process.stdout, "==> baoha server started!")
        assert await DevNode(f"127.0.0.1:{port}").health() == 501
        assert end(process) == 0
        assert process.stdout is not None
        assert "==> baoha shutdown triggered" in process.stdout.read()
    assert "                 Storage: sqlite (HA available)\n" in banner


async def test_dev_server_is_unsealed_and_has_the_wanted_token(tmp_path: Path) -> None:
    port = free_port()
    arguments = {
        "root_token": "dev-root",
        "listen_address": f"127.0.0.1:{port}",
    }
    with started("-c", DEV, repr(arguments)) as process:
        output = read_until(process.stdout, "should NOT be used")
        node = DevNode(f"127.0.0.1:{port}")
        assert await node.health() == 200
        status, _ = await call(node, "POST", "secret/data/x", {"data": {"a": "b"}})
        assert status == 200
        assert end(process, signal.SIGINT) == 0
    assert f"export BAO_ADDR='http://127.0.0.1:{port}'" in output
    assert re.search(r"^Unseal Key: \S{44}$", output, re.MULTILINE)
    assert "Root Token: dev-root\n" in output


async def test_dev_cluster_answers_everywhere_and_ends_in_order(tmp_path: Path) -> None:
    with started("-c", DEV_HA, str(tmp_path)) as process:
        output = read_until(process.stdout, "==> baoha dev cluster is ready")
        state = json.loads((tmp_path / "cluster.json").read_text())
        assert (tmp_path / "cluster.json").stat().st_mode & 0o777 == 0o600
        nodes = [DevNode(node["address"].removeprefix("http://")) for node in state["nodes"]]
        for index, node in enumerate(nodes):
            status, _ = await call(node, "POST", f"secret/data/{index}", {"data": {"a": index}})
            assert status == 200
        assert sorted([await node.health() for node in nodes]) == [200, 429, 429]
        assert all(node["address"] in output for node in state["nodes"])
        assert end(process, signal.SIGINT) == 0
        assert not any(is_running(node["pid"]) for node in state["nodes"])
    # The same folder again: the store, the key and the token are still there.
    with started("-c", DEV_HA, str(tmp_path)) as process:
        read_until(process.stdout, "==> baoha dev cluster is ready")
        state = json.loads((tmp_path / "cluster.json").read_text())
        node = DevNode(state["nodes"][1]["address"].removeprefix("http://"))
        _, answer = await call(node, "GET", "secret/data/1")
        assert answer["data"]["data"] == {"a": 1}
        assert end(process) == 0


async def test_dev_cluster_child_dies_is_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    with started("-c", DEV_HA, str(tmp_path)) as process:
        read_until(process.stdout, "==> baoha dev cluster is ready")
        state = json.loads((tmp_path / "cluster.json").read_text())
        os.kill(state["nodes"][0]["pid"], signal.SIGKILL)
        assert "exit code -9" in read_until(process.stdout, "node1 has ended by itself")
        node = DevNode(state["nodes"][2]["address"].removeprefix("http://"))
        status, _ = await call(node, "POST", "secret/data/x", {"data": {"a": 1}})
        assert status == 200
        assert end(process) == 0


async def test_dev_cluster_parent_is_killed_children_end(tmp_path: Path) -> None:
    with started("-c", DEV_HA, str(tmp_path)) as process:
        read_until(process.stdout, "==> baoha dev cluster is ready")
        state = json.loads((tmp_path / "cluster.json").read_text())
        process.kill()
        with trio.fail_after(30):
            await none_is_running([node["pid"] for node in state["nodes"]])


@pytest.mark.parametrize("nodes", [0, NODES_MAX + 1])
def test_dev_cluster_impossible_size_is_refused(nodes: int) -> None:
    with pytest.raises(ConfigError, match="number of nodes"):
        run_dev_ha(nodes)


@pytest.mark.parametrize("address", ["8200", "localhost", "localhost:http", ":8200"])
def test_dev_server_impossible_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="is not an address"):
        run_dev(listen_address=address)


def test_toml_text_means_what_it_says() -> None:
    import tomllib

    text = 'a"b\\c\nd\x00é'
    assert tomllib.loads(f"x = {toml_text(text)}") == {"x": text}


@pytest.mark.parametrize(("print_text", "name"), [(say, "stdout"), (complain, "stderr")])
def test_print_pipe_that_nobody_reads_does_not_block(
    print_text: Callable[[str], None], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as audience, os.fdopen(writing, "w") as stream:
        monkeypatch.setattr(f"sys.{name}", stream)
        thread = threading.Thread(target=print_text, args=("x" * 1_000_000,), daemon=True)
        thread.start()
        thread.join(5)
        has_returned = not thread.is_alive()
        stream_bytes = audience.read1(2_000_000)
        assert has_returned
    assert set(stream_bytes) == {ord("x")}


@pytest.mark.parametrize(("print_text", "name"), [(say, "stdout"), (complain, "stderr")])
def test_print_without_the_stream_is_no_error(
    print_text: Callable[[str], None], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"sys.{name}", None)
    print_text("said to nobody")


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_server_started_with_closed_descriptors_serves_and_ends(
    tmp_path: Path, closed: tuple[int, ...]
) -> None:
    port = free_port()
    config = tmp_path / "node.toml"
    config.write_text(
        f"""
api_addr = "http://127.0.0.1:{port}"
log_file = "{tmp_path}/log"
disable_clustering = true
[storage.inmem]
[[listener.tcp]]
address = "127.0.0.1:{port}"
tls_disable = true
"""
    )
    shell = " ".join(f"{number}>&-" for number in closed)
    command = f'exec "{sys.executable}" -m baoha.server --config "{config}" {shell}'
    with subprocess.Popen(["/bin/sh", "-c", command], env={"PATH": os.environ["PATH"]}) as process:
        try:
            assert trio.run(_health, port) == 501
            held = {os.readlink(f"/proc/{process.pid}/fd/{number}") for number in closed}
            assert held == {"/dev/null"}
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()


async def _health(port: int) -> int:
    """Return the status of sys/health, as soon as somebody answers."""
    node = DevNode(f"127.0.0.1:{port}")
    with trio.fail_after(30):
        while True:
            if status := await node.health():
                return status
            await trio.sleep(0.05)
    raise AssertionError("nobody answers")
