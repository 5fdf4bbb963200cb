"""
The life of one server process: start, signals, reload, end.

Rules of this file:

1. Teardown order is nesting order: process > stores > API listeners > node. What is inside ends
   first, so health and seal status answer to the very end.
2. Ready means that the listeners are up, not that the node is unsealed.
3. The first SIGTERM is an orderly end, the second one ends at once.

Theory of operation. An orderly end: the node hands active duty over and goes on forwarding; the
listeners stop accepting and answer what they have; then the node is cancelled, then the stores are
closed. An error that leaves the node ends the process with exit code 1, after the listeners were
closed: a crash that others take over from is safer than a node in an unknown state.

Source: ours (ARCHITECTURE.md, "Rings of nurseries"); OpenBao closes its connections first and
drains nothing.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import trio

from baoha.api.door import Door
from baoha.asgi import ASGIApp
from baoha.config.model import ServerConfig
from baoha.core.view import NodeStatus, Role
from baoha.errors import BaohaError, ConfigError, SealError
from baoha.server import banner
from baoha.server.dump import dump_stacks
from baoha.server.http.listener import APIListener
from baoha.server.logs import Logs
from baoha.server.notify import Notifier
from baoha.server.reload import apply_reload
from baoha.server.settings import listener_policy
from baoha.server.stores import Stores, with_addresses
from baoha.server.watchdog import LoopRecord, LoopWatchdog

logger = logging.getLogger("baoha.server")

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)
# After a second signal the bounded clean-ups may run for so long; then the process is gone.
FORCED_EXIT_S = 3.0
# Longer than any single step of an orderly end.
LISTENER_STOP_S = 10.0


class RunnableNode(Protocol):
    """What the process needs of a node; ``baoha.node.Node`` is one."""

    def status(self) -> NodeStatus:
        """Return the current picture, from memory."""

    async def wait_change(self, seen: NodeStatus) -> None:
        """Return as soon as the picture has changed."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until cancelled."""

    async def leave(self) -> None:
        """Hand active duty over; the node goes on forwarding."""

    def note_problem(self, subject: str, sentence: str) -> None:
        """Show operators what the process sees wrong; one sentence a subject."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """How the process gets its parts. Tests give others."""

    open_stores: Callable[[ServerConfig], AbstractAsyncContextManager[Stores]]
    make_node: Callable[[ServerConfig, Stores], RunnableNode]
    # The float: see HATiming.park_s. The door: who is refused before the app sees a request.
    make_app: Callable[[RunnableNode, float], tuple[ASGIApp, Door | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessEnvironment:
    """
    The world around the process.

    Attributes:
        logs: whose level and file a reload may change.
        say: prints one piece of text on standard output.
        warnings: about the configuration, for the log.
        complain: prints one line on standard error, for errors before the start.
        load_again: reads the configuration again (SIGHUP); None when there are no files.
        exit_with_parent: a pipe whose end of file means that the parent is gone.
        when_started: a task that runs in the node ring once the listeners are up (development
            modes initialise and unseal there); it gets the bound addresses.
    """

    logs: Logs
    notifier: Notifier
    say: Callable[[str], None]
    complain: Callable[[str], None]
    warnings: tuple[str, ...] = ()
    load_again: Callable[[], ServerConfig] | None = None
    exit_with_parent: int | None = None
    when_started: Callable[[list[str]], AbstractAsyncContextManager[None]] | None = None


class ServerProcess:
    """One server process; ``run`` returns its exit code."""

    def __init__(self, config: ServerConfig, parts: Parts, environment: ProcessEnvironment) -> None:
        self._config = config
        self._parts = parts
        self._environment = environment
        self._listeners: list[APIListener] = []
        self._shutdown = trio.Event()
        self._must_reload = trio.Event()
        self._root = trio.CancelScope()
        self._watchdog = LoopWatchdog()
        self._exit_code = 0
        self._is_up = False

    async def run(self) -> int:
        """Run until a signal or a fatal error ends it, and return the exit code."""
        try:
            with trio.open_signal_receiver(*SIGNALS) as signals, self._root:
                async with trio.open_nursery() as process:
                    process.start_soon(self._watch_signals, signals)
                    process.start_soon(self._reload_when_asked)
                    process.start_soon(self._environment.notifier.run_watchdog)
                    await process.start(self._watchdog.run)
                    if self._environment.exit_with_parent is not None:
                        process.start_soon(self._watch_parent, self._environment.exit_with_parent)
                    await self._serve()
                    process.cancel_scope.cancel()
        except* Exception as group:
            # The ring boundary: whatever came up to here ends the process, with its cause.
            self._exit_code = 1
            self._report_fatal(group)
        return self._exit_code

    def shut_down(self) -> None:
        """Begin the orderly end."""
        if not self._shutdown.is_set():
            self._environment.say(banner.SHUTDOWN)
            self._shutdown.set()

    # --- rings -----------------------------------------------------------------------------------

    async def _serve(self) -> None:
        async with self._parts.open_stores(self._config) as stores:
            config = await with_addresses(self._config, stores)
            node = self._parts.make_node(config, stores)
            self._watchdog.on_report = partial(_show_loop, node)
            app, door = self._parts.make_app(node, self._config.ha.park_s)
            self._listeners = [
                APIListener(
                    app,
                    listener,
                    policy=listener_policy(listener, name=f"listener {number}"),
                    door=door,
                )
                for number, listener in enumerate(self._config.listeners, 1)
            ]
            async with trio.open_nursery() as api:
                addresses = [await api.start(listener.serve) for listener in self._listeners]
                with _pid_file(self._config.pid_file):
                    self._show_start(config, addresses, stores)
                    try:
                        await self._run_node(node, addresses)
                    finally:
                        for listener in self._listeners:
                            listener.stop()

    async def _run_node(self, node: RunnableNode, addresses: list[str]) -> None:
        async with trio.open_nursery() as ring:
            await ring.start(node.run)
            self._is_up = True
            self._environment.notifier.ready(describe_status(node.status()))
            ring.start_soon(self._report_status, node)
            async with self._development(addresses):
                await self._shutdown.wait()
            await self._leave(node)
            ring.cancel_scope.cancel()

    @contextlib.asynccontextmanager
    async def _development(self, addresses: list[str]) -> AsyncIterator[None]:
        if self._environment.when_started is None:
            yield
            return
        async with self._environment.when_started(addresses):
            yield

    async def _leave(self, node: RunnableNode) -> None:
        timing = self._config.ha
        bound_s = 2 * timing.handover_wait_s + timing.drain_s + 2 * timing.cleanup_s
        notifier = self._environment.notifier
        notifier.stopping("handing over")
        notifier.extend_timeout(bound_s + LISTENER_STOP_S)
        with trio.move_on_after(bound_s) as scope:
            await node.leave()
        if scope.cancelled_caught:
            logger.warning("hand-over took too long, stopping without it: bound_s=%g", bound_s)
        notifier.status("answering the last requests")
        for listener in self._listeners:
            listener.stop()
        with trio.move_on_after(LISTENER_STOP_S):
            for listener in self._listeners:
                await listener.stopped.wait()

    async def _report_status(self, node: RunnableNode) -> None:
        while True:
            seen = node.status()
            self._environment.notifier.status(describe_status(seen))
            await node.wait_change(seen)

    # --- signals ---------------------------------------------------------------------------------

    async def _watch_signals(self, signals: AsyncIterator[int]) -> None:
        async for number in signals:
            if number == signal.SIGHUP:
                if self._is_up:
                    self._must_reload.set()
            elif number == signal.SIGUSR2:
                logger.info("stack dump requested:\n%s", dump_stacks())
            elif self._shutdown.is_set():
                self._end_at_once(number)
            else:
                self.shut_down()
                if not self._is_up:
                    self._root.cancel()  # nothing to hand over yet

    def _end_at_once(self, number: int) -> None:
        logger.warning("second signal, ending at once: signal=%s", signal.Signals(number).name)
        self._exit_code = 128 + number
        self._root.cancel()
        # A shielded clean-up, or a stuck event loop, must not outlive this for long.
        timer = threading.Timer(FORCED_EXIT_S, os._exit, [self._exit_code])
        timer.daemon = True
        timer.start()

    async def _watch_parent(self, descriptor: int) -> None:
        async with trio.lowlevel.FdStream(descriptor) as pipe:
            while await pipe.receive_some(1):
                pass
        logger.warning("the parent process has ended")
        self.shut_down()

    async def _reload_when_asked(self) -> None:
        """Reload, one at a time. Signals that come meanwhile are one more."""
        while True:
            await self._must_reload.wait()
            self._must_reload = trio.Event()
            await self._reload()

    async def _reload(self) -> None:
        self._environment.say(banner.RELOAD)
        self._environment.notifier.reloading()
        try:
            # In a thread: the files may be slow, or a FIFO that nobody writes to.
            self._config = await trio.to_thread.run_sync(
                apply_reload,
                self._config,
                self._environment.load_again,
                self._listeners,
                self._environment.logs,
                abandon_on_cancel=True,
            )
        finally:
            self._environment.notifier.ready("configuration reloaded")

    # --- telling ---------------------------------------------------------------------------------

    def _show_start(self, config: ServerConfig, addresses: list[str], stores: Stores) -> None:
        info = banner.describe(
            config,
            addresses=addresses,
            backend=stores.data,
            ha_backend=stores.separate,
            environ=os.environ,
        )
        self._environment.say(banner.configuration_block(info))
        self._environment.say(banner.STARTED + "\n")
        for warning in self._environment.warnings:
            logger.warning("%s", warning)

    def _report_fatal(self, group: BaseExceptionGroup[Exception]) -> None:
        for error in _leaves(group):
            if isinstance(error, ConfigError) or type(error) is SealError:
                # The operator's to mend, and found out when the store is read: no place in our
                # code would help. (Errors derived from SealError would be bugs here.) Said on
                # standard error too, the log may be a file.
                if self._is_up:
                    logger.critical("the server ends: cause=%s", error)
                self._environment.complain(f"Error starting baoha: {error}")
                continue
            if not self._is_up and isinstance(error, BaohaError):
                self._environment.complain(f"Error starting baoha: {error}")
                continue
            # The text of a foreign error may quote data; its type and place never do.
            text = str(error) if isinstance(error, BaohaError | OSError) else ""
            logger.critical(
                "the server ends: cause=%s: %s\n%s",
                type(error).__name__,
                text,
                "".join(traceback.format_tb(error.__traceback__)).rstrip(),
            )


def _show_loop(node: RunnableNode, record: LoopRecord) -> None:
    if record.long_turns:
        node.note_problem("event loop", record.sentence())


def describe_status(status: NodeStatus) -> str:
    """Return one line about a node, for ``systemctl status``."""
    if status.store_problem:
        return f"storage problem: {status.store_problem}"
    if not status.initialized:
        return "not initialized"
    if status.sealed:
        return "sealed"
    if status.role is Role.ACTIVE:
        return "active"
    if status.leader is None or status.leader_changing:
        return "standby, no active node known"
    return f"standby of {status.leader.redirect_addr}"


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


@contextlib.contextmanager
def _pid_file(name: str) -> Iterator[None]:
    if not name:
        yield
        return
    path = Path(name)
    try:
        # Whatever the umask: who could write it would choose whom the operator's signals reach.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, 0o644)
            file.write(f"{os.getpid()}\n")
    except OSError as error:
        raise ConfigError(f'cannot write pid file "{name}": {error.strerror}') from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
