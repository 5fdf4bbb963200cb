"""
``baoha server --dev-ha 3``, as the README's first command starts it.

It prints addresses, root token and a curl line, and Ctrl-C ends all nodes.
"""

from __future__ import annotations

import re
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from testbed.http import Connection
from testbed.processes import ServerProcess

pytestmark = pytest.mark.cluster

READY = "==> baoha dev cluster is ready"
STOP_S = 20.0
BAOHA = Path(sys.executable).parent / "baoha"


async def test_dev_cluster_prints_how_to_use_it_works_and_ends_on_ctrl_c(tmp_path: Path) -> None:
    process = _start(tmp_path)
    try:
        output = await _output(process, READY)
        addresses = re.findall(r"node[123]\s+http://127\.0\.0\.1:([0-9]+)", output)
        children = [int(pid) for pid in re.findall(r"pid ([0-9]+)", output)]
        token = _group(r"Root Token: (\S+)", output)
        assert len(addresses) == len(children) == 3
        assert "curl " in output
        for number, port in enumerate(addresses):
            with Connection("127.0.0.1", int(port), token=token) as connection:
                body = {"data": {"number": number}}
                written = await connection.request("PUT", f"/v1/secret/data/n{number}", body)
                assert written.status == 200, written.body
        for number in range(3):
            for port in addresses:
                with Connection("127.0.0.1", int(port), token=token) as connection:
                    read = await connection.request("GET", f"/v1/secret/data/n{number}")
                    assert read.json()["data"]["data"] == {"number": number}
        process.send(signal.SIGINT)
        with trio.fail_after(30):
            assert await process.wait() == 0
        assert [pid for pid in children if _is_alive(pid)] == []
        assert "Traceback" not in process.log_text()
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + STOP_S):
            await process.stop()
        print(process.log_text())


async def test_dev_cluster_that_is_killed_leaves_no_orphans(tmp_path: Path) -> None:
    process = _start(tmp_path)
    try:
        output = await _output(process, READY)
        children = [int(pid) for pid in re.findall(r"pid ([0-9]+)", output)]
        process.send(signal.SIGKILL)
        await process.wait()
        with trio.fail_after(30):
            await _wait_gone(children)
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + STOP_S):
            await process.stop()


def _start(folder: Path) -> ServerProcess:
    # Its own home and temporary folder: it may write both.
    environment = {"HOME": str(folder), "TMPDIR": str(folder)}
    command = [str(BAOHA), "server", "--dev-ha", "3", "--dev-ha-port", "0"]
    return ServerProcess(command, log_file=folder / "output.txt", environment=environment)


async def _output(process: ServerProcess, until: str) -> str:
    with trio.fail_after(60):
        while True:
            text = process.log_text()
            if until in text:
                return text
            assert process.is_running, text
            await trio.sleep(0.1)


async def _wait_gone(pids: list[int]) -> None:
    while True:
        if not any(_is_alive(pid) for pid in pids):
            return
        await trio.sleep(0.1)


def _is_alive(pid: int) -> bool:
    with suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state not in "ZX"
    return False


def _group(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    assert found is not None, text
    return found[1]
