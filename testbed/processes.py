"""
One server process: start it, signal it, wait for its end, read what CPU time it used.

Rules of this file:

1. A process is ended by its own process id (or its own process group), and it never outlives
   whoever started it: the kernel ends it with its parent, however that one ends.
2. Nothing here knows what the process is.

Theory of operation. The child is the leader of a process group, so that a server with helpers
(PostgreSQL) is measured and ended as one. ``pidfd_open`` makes the end of a process something that
trio can wait for without a thread or a poll.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import trio

# How long an orderly end may take before the process is killed.
STOP_S = 15.0
_PR_SET_PDEATHSIG = 1
_CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_LIBC = ctypes.CDLL(None, use_errno=True)


class ServerProcess:
    """
    A running child process.

    Owns: the process; ``stop`` or ``kill`` ends it. Must be made in the main thread, because the
    kernel ties the child's life to the thread that made it.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        log_file: Path,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        """
        Start the command; its output is appended to the log file.

        Args:
            user: whom to run as, for servers that refuse to run as root.
            stop_signal: the signal that asks for an orderly end.

        Raises:
            OSError: it cannot be started.
        """
        self.command = tuple(command)
        self.log_file = log_file
        self._stop_signal = stop_signal
        with log_file.open("ab") as log:
            self._popen = subprocess.Popen(  # arguments of ours, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=None if environment is None else {**os.environ, **environment},
                cwd=folder,
                user=user,
                group=None if user is None else pwd.getpwnam(user).pw_gid,
                extra_groups=None if user is None else [],
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    @property
    def pid(self) -> int:
        """The process id, also after the end."""
        return self._popen.pid

    @property
    def is_running(self) -> bool:
        """Return whether the process has not ended."""
        return self._popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._popen.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens when the process has ended."""
        self._popen.send_signal(number)

    async def wait(self) -> int:
        """Return the exit code, as soon as there is one."""
        if self._popen.poll() is not None:
            return self._popen.returncode
        pidfd = os.pidfd_open(self.pid)  # of its own: trio allows one waiter for each
        try:
            await trio.lowlevel.wait_readable(pidfd)
        finally:
            os.close(pidfd)
        return self._popen.wait()

    async def stop(self, *, patience_s: float = STOP_S) -> int:
        """End the process in its own way, after ``patience_s`` by force; return its exit code."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + patience_s + STOP_S):
            if self.is_running:
                self.send(signal.SIGCONT)
                self.send(self._stop_signal)
            with trio.move_on_after(patience_s):
                return await self.wait()
            return await self.kill()
        raise trio.TooSlowError

    async def kill(self) -> int:
        """End the process and whatever it started by force; return its exit code."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return await self.wait()

    def log_text(self) -> str:
        """Return what it has printed so far."""
        return self.log_file.read_text(errors="replace")


def cpu_time_s(groups: Iterable[int]) -> float:
    """
    Return the CPU time, user and system, that all processes of these process groups have used.

    Children that have ended and been waited for count too. Source: proc_pid_stat(5).
    """
    wanted = set(groups)
    ticks = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_text()
        except OSError:
            continue  # it ended meanwhile
        # The command's name, in parentheses, may contain anything.
        fields = text.rpartition(")")[2].split()
        if int(fields[2]) in wanted:
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / _CLOCK_TICKS_PER_S


def _end_with_parent() -> None:
    # Runs in the child, between fork and exec.
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
