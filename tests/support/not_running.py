"""
Processes that hold locks of a SQLite file and do not run any more, for every reason there is.

Rules of this file: every process that is started here is ended here, by its own id; whoever traces
a process is a process of its own, so that the end of a test frees what is left.

Source: https://www.sqlite.org/walformat.html (locks are bytes 120 to 127 of the ``-shm`` file).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

# Holds bytes of the -shm file, as SQLite would, and a sign of life, as a node would; then obeys:
# "free" gives the bytes back, "disk FIFO" waits as for a disk that does not answer.
_HOLDER = """
import ctypes, fcntl, os, sys, threading
path, first, count, sign = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
if sys.argv[5]:
    threading.Thread(target=threading.Event().wait, daemon=True).start()
ctypes.CDLL(None).prctl(0x59616D61, ctypes.c_ulong(-1))  # whoever likes may trace it
shm = os.open(path + "-shm", os.O_RDWR)
if count:
    fcntl.lockf(shm, fcntl.LOCK_EX, count, first)
if count == 8:
    os.pwrite(shm, bytes(136), 0)  # a recovery begins because the index is not valid
if sign:
    life = os.open(f"{path}.ha/{sign}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(life, fcntl.LOCK_SH)
print("held", flush=True)
for line in sys.stdin:
    if line.startswith("disk "):
        # The parent of a vfork sleeps uninterruptibly until its child has opened the pipe.
        opens = [(os.POSIX_SPAWN_OPEN, 3, line[5:].strip(), os.O_RDONLY, 0)]
        os.posix_spawn("/bin/true", ["true"], {}, file_actions=opens)
    if count:
        fcntl.lockf(shm, fcntl.LOCK_UN, count, first)
    print("free", flush=True)
"""

# PTRACE_SEIZE and PTRACE_INTERRUPT for every thread of a process; they go on when this one ends.
_TRACER = """
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
for task in map(int, sys.argv[1:]):
    for request in (0x4206, 0x4207):
        if libc.ptrace(request, task, None, None):
            if ctypes.get_errno() == errno.ESRCH:
                break  # a thread that has ended meanwhile
            sys.exit(os.strerror(ctypes.get_errno()))
print("stopped", flush=True)
sys.stdin.readline()
"""

WRITE = (120, 1)
CHECKPOINT = (121, 3)  # the checkpointer's lock, and the first mark of the readers
RECOVERY = (120, 8)
NOTHING = (0, 0)

Child = subprocess.Popen[str]


@contextmanager
def _child(source: str, *arguments: str, says: str) -> Iterator[Child]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", source, *arguments]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"{says}\n"
            yield process
        finally:
            process.kill()


@contextmanager
def holding(
    database: Path, place: tuple[int, int], *, sign_of_life: str = "", has_threads: bool = False
) -> Iterator[Child]:
    """Lend a process that holds a lock of a database whose ``-shm`` file exists."""
    first, count = map(str, place)
    arguments = [str(database), first, count, sign_of_life, "threads" if has_threads else ""]
    with _child(_HOLDER, *arguments, says="held") as process:
        yield process


def let_go(process: Child) -> None:
    """Have a holder that runs give the lock back."""
    assert process.stdin is not None
    assert process.stdout is not None
    print("free", file=process.stdin, flush=True)
    assert process.stdout.readline() == "free\n"


def state(pid: int) -> str:
    """Return the letter of proc(5) of a process or thread."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def wait_state(pid: int, letter: str) -> None:
    """Return when a process is in this state."""
    give_up_at = time.monotonic() + 20
    while state(pid) != letter:
        assert time.monotonic() < give_up_at, f"the process is in state {state(pid)}, not {letter}"
        time.sleep(0.001)


@contextmanager
def stopped_by_signal(process: Child, folder: Path) -> Iterator[None]:
    """SIGSTOP, as by Ctrl-Z."""
    process.send_signal(signal.SIGSTOP)
    wait_state(process.pid, "T")
    yield


@contextmanager
def traced(pid: int, *, threads: Sequence[int] = ()) -> Iterator[None]:
    """Stop threads of a process (none named: all of them), as a debugger does."""
    chosen = threads or sorted(map(int, os.listdir(f"/proc/{pid}/task")))
    with _child(_TRACER, *map(str, chosen), says="stopped"):
        for thread in chosen:
            with suppress(FileNotFoundError):  # it has ended meanwhile
                wait_state(thread, "t")
        yield


@contextmanager
def stopped_by_tracer(process: Child, folder: Path) -> Iterator[None]:
    """As ``traced``."""
    with traced(process.pid):
        yield


@contextmanager
def waiting_for_disk(process: Child, folder: Path) -> Iterator[None]:
    """Uninterruptible sleep, as in an fsync that hangs or in a frozen cgroup (version 1)."""
    fifo = folder / "disk"
    subprocess.run(["mkfifo", fifo], check=True)
    assert process.stdin is not None
    print(f"disk {fifo}", file=process.stdin, flush=True)
    wait_state(process.pid, "D")
    try:
        yield
    finally:
        fifo.write_text("")  # lets the child of the vfork go


Stop = Callable[[Child, Path], AbstractContextManager[None]]
