"""
``baoha server``: from a configuration to an exit code.

Rule of this file: it chooses the real parts and prepares the process; how they live is in
lifecycle.py.
"""

from __future__ import annotations

import gc
import os
import resource
import select
import sys
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import TextIO

import trio

from baoha.api.admission import Admission
from baoha.api.app import build_app
from baoha.api.door import Door
from baoha.api.uploads import ROOM_BYTES
from baoha.asgi import ASGIApp
from baoha.cluster.network import TCPNetwork
from baoha.config.addresses import enforce
from baoha.config.model import ServerConfig
from baoha.core.engines.registry import installed_engine_types
from baoha.errors import ConfigError
from baoha.node import Node
from baoha.offload import SWITCH_INTERVAL_S
from baoha.server.last_words import places, without_texts
from baoha.server.lifecycle import Parts, ProcessEnvironment, RunnableNode, ServerProcess
from baoha.server.logs import Logs
from baoha.server.memory import usable_bytes
from baoha.server.notify import Notifier
from baoha.server.priority import raise_priority
from baoha.server.settings import node_settings
from baoha.server.stores import Stores, judge_addresses, open_stores

# Enough for every listener's connections_max, the store and the cluster channel.
DESCRIPTORS = 65_536

# The oldest generation practically never: to look through it takes as long as there are
# connections, and stops the loop meanwhile. What is lost there is little.
GC_THRESHOLDS = (10_000, 20, 1_000)

# How long a text on standard output waits for a reader. Well below what the loop may stand still.
PRINT_MS = 50

WhenStarted = Callable[[list[str]], AbstractAsyncContextManager[None]]


def run(
    config: ServerConfig,
    *,
    load_again: Callable[[], ServerConfig] | None = None,
    exit_with_parent: int | None = None,
    when_started: WhenStarted | None = None,
) -> int:
    """
    Run one server until it ends, and return the exit code of the process.

    Args:
        config: loaded and checked.
        load_again: reads the files again on SIGHUP.
        exit_with_parent: descriptor of a pipe; its end of file begins the shutdown.
        when_started: see ``lifecycle.ProcessEnvironment``.

    Returns:
        0 after an orderly end, 1 after an error, 128 + n after a second signal n.
    """
    fill_standard_descriptors()
    _prepare_process()
    raise_priority(config.nice)
    try:
        findings = judge_addresses(config)
        enforce(findings)
        logs = Logs(level=config.log_level, format=config.log_format, file=config.log_file)
    except ConfigError as error:
        complain(f"Error starting baoha: {error}")
        return 1
    environment = ProcessEnvironment(
        logs=logs,
        warnings=(*config.warnings, *map(str, findings)),
        notifier=Notifier(os.environ),
        say=say,
        complain=complain,
        load_again=load_again,
        exit_with_parent=exit_with_parent,
        when_started=when_started,
    )
    parts = Parts(open_stores=open_stores, make_node=_make_node, make_app=_make_app)

    async def main() -> int:
        return await ServerProcess(config, parts, environment).run()

    try:
        with without_texts():
            return trio.run(main)
    except Exception as error:
        # Not for Python to print: the text may quote what a client or a store has sent.
        complain(f"baoha ended by an error: {places(error)}")
        return 1
    finally:
        logs.close()


def _make_node(config: ServerConfig, stores: Stores) -> RunnableNode:
    return Node(
        replace(node_settings(config), engines=installed_engine_types()),
        backend=stores.data,
        ha_backend=stores.ha,
        network=TCPNetwork(),
    )


def _make_app(node: RunnableNode, park_s: float) -> tuple[ASGIApp, Door]:
    assert isinstance(node, Node)
    admission = Admission()
    # The rest is for what becomes of a body: decoded, encrypted, encoded again.
    upload_bytes = min(ROOM_BYTES, usable_bytes() // 8)
    app = build_app(node, admission=admission, park_s=park_s, upload_bytes=upload_bytes)
    return app, Door(node, admission)


def _prepare_process() -> None:
    # Every request makes some hundred objects that refer to each other; to look for lost ones after
    # every 700, as Python does by itself, costs a sixth of the CPU time.
    gc.set_threshold(*GC_THRESHOLDS)
    gc.freeze()  # what was imported stays: it is not looked at again
    # No key may end up in a core file; and every connection needs a descriptor (Go raises its
    # limit by itself, too).
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    # The event loop waits for so long whenever a worker thread computes.
    sys.setswitchinterval(SWITCH_INTERVAL_S)


def fill_standard_descriptors() -> None:
    """
    Open the null device in place of each standard descriptor with which nobody has started us.

    Otherwise the next file or connection gets its number, and with it whatever a library or a child
    process writes to standard error.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number is the one that is missing.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def say(text: str) -> None:
    """Print on standard output; an audience that has left, or does not read, is no error."""
    _print(sys.stdout, text)


def complain(text: str) -> None:
    """Print on standard error."""
    _print(sys.stderr, text)


def _print(stream: TextIO | None, text: str) -> None:
    """Print what the audience takes soon: the event loop does not wait for a pipe that is full."""
    if stream is None:
        return  # the process was started without
    data = (text + "\n").encode("utf-8", "backslashreplace")
    try:
        descriptor = stream.fileno()
        room = select.poll()
        room.register(descriptor, select.POLLOUT)
        while data and room.poll(PRINT_MS):
            # A pipe with room takes that much at once.
            data = data[os.write(descriptor, data[: select.PIPE_BUF]) :]
    except (OSError, ValueError):
        return  # a closed pipe: the server does not depend on its audience
