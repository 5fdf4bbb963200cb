"""
The folder beside the database where contenders show that they live and hear of changes.

Rules of this file:

1. Evidence of death is the kernel's: a file lock ends with the process that held it, however it
   ended. A process that is stopped or slow still holds its lock, so it is never called dead.
2. An announcement is a hint. Sending never blocks and never fails; who is woken reads the row.
3. What somebody removes from a running node is put back, the folder itself included. Nobody looks
   for a sign of life in a folder that has lost its name.

Theory of operation. ``<db>.ha/`` holds, for each contender, ``<identity>.lock``: every open handle
of that process has a shared flock on it. Whoever wants to know whether the process is gone tries
the exclusive flock, which the kernel grants only when no handle is left. And it holds, for each
handle, one ``*.sock``: a Unix datagram socket. A change of the HA lock sends one byte to each of
them; what was sent between two waits stays in the socket's buffer, so nothing is lost.

Source: ours; flock(2), unix(7) (its limit of 108 bytes is met by way of /proc/self/fd).
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import socket
import stat
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import trio

from baoha.errors import StorageUnavailable

_MODE_FOLDER = 0o700
_MODE_FILE = 0o600
_FLAGS_FILE = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_FLAGS_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
SUFFIX = ".ha"  # what the folder's name has more than the database's
# A name in the folder, and short enough for a socket's address with the rest of it.
_IDENTITY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ANNOUNCEMENT = b"\0"
# An examiner holds the lock for microseconds; whoever meets one tries again.
_FLOCK_TRIES = 50
_FLOCK_RETRY_S = 0.002


class PresenceFolder:
    """
    The open ``<db>.ha`` folder.

    What an announcement needs is opened beforehand: a process that is out of descriptors must be
    able to hand over. The number of its descriptor stays when the folder is another one.

    Owns: two directory descriptors and a socket, until ``close``.

    Raises:
        StorageUnavailable: it cannot be made or opened, or others could forge evidence in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(mode=_MODE_FOLDER, exist_ok=True)
            with ExitStack() as opened:
                kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
                self._sender = opened.enter_context(socket.socket(socket.AF_UNIX, kind))
                self.fd = os.open(path, _FLAGS_FOLDER)
                opened.callback(os.close, self.fd)
                _refuse_strangers_folder(path, os.fstat(self.fd))
                self._spare_fd = os.dup(self.fd)
                opened.pop_all()
        except OSError as exc:
            raise StorageUnavailable(f"cannot open {path}: {exc.strerror}") from exc

    def close(self) -> None:
        """Close the descriptors; a writer that is late finds nothing instead of another's file."""
        fd, self.fd = self.fd, -1
        os.close(fd)
        self._drop_spare()
        self._sender.close()

    def follow(self) -> bool:
        """
        Turn to the folder that has the name now, if it is another one.

        Returns:
            False: there is none that can be used; what was open stays open.
        """
        try:
            named = os.stat(self.path, follow_symlinks=False)
            if os.path.samestat(named, os.fstat(self.fd)):
                return True
            fd = os.open(self.path, _FLAGS_FOLDER)
        except OSError:
            return False
        try:
            _refuse_strangers_folder(self.path, os.fstat(fd))
            # In one step: the writer's thread uses the number meanwhile.
            os.dup2(fd, self.fd, inheritable=False)
            if self._spare_fd >= 0:
                os.dup2(fd, self._spare_fd, inheritable=False)
        except (OSError, StorageUnavailable):
            return False
        finally:
            os.close(fd)
        return True

    def ensure(self) -> bool:
        """
        Do what ``follow`` does, and make the folder where it is missing beside its database.

        Without the database the whole place may have been moved away, and is left alone.
        """
        if self.follow():
            return True
        try:
            os.stat(self.path.with_name(self.path.name.removesuffix(SUFFIX)))
            self.path.mkdir(mode=_MODE_FOLDER)
        except OSError:
            return False
        return self.follow()

    def can_bind(self) -> bool:
        """Return whether announcements can be heard here, by trying."""
        try:
            ChangeListener(self, "probe").close()
        except StorageUnavailable:
            return False
        return True

    def is_gone(self, identity: str) -> bool:
        """Return whether no process holds this identity's file any more. False: cannot prove it."""
        # In a folder that was removed nobody has a file, alive or not.
        if _IDENTITY.fullmatch(identity) is None or not self.follow():
            return False
        try:
            fd = os.open(f"{identity}.lock", _FLAGS_FILE, dir_fd=self.fd)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        try:
            return _try_flock(fd, fcntl.LOCK_EX)
        finally:
            os.close(fd)

    def announce(self) -> None:
        """Tell every handle of every process that the lock may have changed hands."""
        for name in self._names(".sock") or self._names_without_descriptor(".sock"):
            try:
                self._sender.sendto(_ANNOUNCEMENT, self.socket_path(name))
            except ConnectionRefusedError:
                # Nobody is bound to it, and names are never used twice: a dead process's.
                self.remove(name)
            except OSError:
                # A full buffer: its owner has been told and has not looked yet. Or it is gone.
                continue

    def sweep(self) -> None:
        """Remove what dead processes left. Files of the living are never removed."""
        for name in self._names(".lock"):
            try:
                fd = os.open(name, _FLAGS_FILE, dir_fd=self.fd)
            except OSError:
                continue
            try:
                # Removed while it is held: a contender that has just opened it looks again.
                if _try_flock(fd, fcntl.LOCK_EX):
                    self.remove(name)
            finally:
                os.close(fd)

    def socket_path(self, name: str) -> str:
        """Return an address for a socket file that is short, however long the folder's path is."""
        return f"/proc/self/fd/{self.fd}/{name}"

    def remove(self, name: str) -> None:
        """Remove a file if it is there and can be removed."""
        try:
            os.unlink(name, dir_fd=self.fd)
        except OSError:
            return

    def _names(self, suffix: str) -> list[str]:
        try:
            return [name for name in os.listdir(self.fd) if name.endswith(suffix)]
        except OSError:
            return []

    def _names_without_descriptor(self, suffix: str) -> list[str]:
        """Do what ``_names`` does, with the descriptor that was kept for it. One thread at once."""
        self._drop_spare()
        names = self._names(suffix)
        with suppress(OSError):  # somebody else was quicker; there may be one the next time
            self._spare_fd = os.dup(self.fd)
        return names

    def _drop_spare(self) -> None:
        fd, self._spare_fd = self._spare_fd, -1
        if fd >= 0:
            os.close(fd)


@dataclass
class PresenceLock:
    """
    The sign of life of one handle: a shared flock on its identity's file.

    Owns: one descriptor, until ``close``. The kernel closes it when the process ends.
    """

    folder: PresenceFolder
    identity: str
    _fd: int = field(default=-1, init=False)

    @classmethod
    async def open(cls, folder: PresenceFolder, identity: str) -> PresenceLock:
        """
        Take the flock.

        Raises:
            StorageUnavailable: the identity is no file name, or the file cannot be locked.
        """
        if _IDENTITY.fullmatch(identity) is None:
            raise StorageUnavailable("cannot open HA lock: identity cannot be used as a file name")
        lock = cls(folder, identity)
        for _ in range(_FLOCK_TRIES):
            if lock.ensure():
                return lock
            await trio.sleep(_FLOCK_RETRY_S)
        raise StorageUnavailable("cannot open HA lock: session file cannot be made or locked")

    @property
    def _name(self) -> str:
        return f"{self.identity}.lock"

    def ensure(self) -> bool:
        """
        Hold the flock on the file that has the name now; make the file anew if it was removed.

        Returns:
            False: not now. Without the flock others may call this process dead too early; the
            fence still keeps the store safe.
        """
        if self._is_ours():
            return True
        self._let_go()
        try:
            flags = _FLAGS_FILE | os.O_CREAT
            self._fd = os.open(self._name, flags, _MODE_FILE, dir_fd=self.folder.fd)
        except OSError:
            return False
        # Between open and flock a sweeper may have removed the file: then the lock proves nothing.
        if _try_flock(self._fd, fcntl.LOCK_SH) and self._is_ours():
            return True
        self._let_go()
        return False

    def close(self) -> None:
        """Let go; the last handle of an identity removes its file. Safe to call twice."""
        if self._fd >= 0 and self._is_ours() and _try_flock(self._fd, fcntl.LOCK_EX):
            self.folder.remove(self._name)
        self._let_go()

    def _is_ours(self) -> bool:
        if self._fd < 0:
            return False
        try:
            named = os.stat(self._name, dir_fd=self.folder.fd)
        except OSError:
            return False
        return os.path.samestat(named, os.fstat(self._fd))

    def _let_go(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class ChangeListener:
    """
    One handle's datagram socket.

    Owns: the socket and its file, until ``close``.

    Raises:
        StorageUnavailable: no socket can be bound in the folder.
    """

    def __init__(self, folder: PresenceFolder, identity: str) -> None:
        self._folder = folder
        self._identity = identity
        try:
            self._name, self._socket = self._bind()
        except OSError as exc:
            raise StorageUnavailable(f"cannot listen for HA changes: {exc.strerror}") from exc

    async def wait(self) -> None:
        """Wait until something was announced since the last wait."""
        await trio.lowlevel.wait_readable(self._socket)
        self._drain()

    def ensure(self) -> None:
        """
        Bind anew if the socket's file was removed, and no task is in ``wait``.

        Where that fails, it is not heard of changes: they are found out later.
        """
        try:
            os.stat(self._name, dir_fd=self._folder.fd, follow_symlinks=False)
        except FileNotFoundError:
            with suppress(OSError):
                deaf = self._socket
                self._name, self._socket = self._bind()
                deaf.close()
        except OSError:
            return

    def close(self) -> None:
        """Close the socket and remove its file; a task in ``wait`` gets ClosedResourceError."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
            self._folder.remove(self._name)

    def _bind(self) -> tuple[str, socket.socket]:
        # The token keeps several handles of one identity apart, and names unique for ever.
        name = f"{self._identity}.{secrets.token_hex(4)}.sock"
        kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        bound = socket.socket(socket.AF_UNIX, kind)
        try:
            bound.bind(self._folder.socket_path(name))
        except OSError:
            bound.close()
            raise
        return name, bound

    def _drain(self) -> None:
        # Announcements that piled up are one piece of news.
        try:
            while self._socket.recv(1):
                pass
        except BlockingIOError:
            return


class Presence:
    """
    What one handle has in the folder: its sign of life, and where announcements are heard its
    listener.

    Attributes:
        folder: where others look for it.
        is_closed: it has let go.

    Owns: both, until ``close``.
    """

    def __init__(self, lock: PresenceLock, changes: ChangeListener | None) -> None:
        self.folder = lock.folder
        self.is_closed = False
        self._lock = lock
        self._changes = changes

    @classmethod
    async def open(cls, folder: PresenceFolder, identity: str, *, hears: bool) -> Presence:
        """
        Show that a contender lives.

        Args:
            hears: whether announcements can be heard here.

        Raises:
            StorageUnavailable: the identity is no file name, or a file or socket cannot be made.
        """
        lock = await PresenceLock.open(folder, identity)
        try:
            return cls(lock, ChangeListener(folder, identity) if hears else None)
        except StorageUnavailable:
            lock.close()
            raise

    def show(self) -> None:
        """Put the sign of life back if somebody has removed it."""
        self.folder.ensure()
        self._lock.ensure()

    def listen(self) -> None:
        """Put the listener's socket back if it was removed, and no task is in ``wait_change``."""
        if self._changes is not None:
            self._changes.ensure()

    async def wait_change(self) -> None:
        """Wait until something was announced since the last wait; for ever without a listener."""
        if self._changes is None:
            await trio.sleep_forever()
        else:
            await self._changes.wait()

    def close(self) -> None:
        """Let go of both. Safe to call twice."""
        self.is_closed = True
        self._lock.close()
        if self._changes is not None:
            self._changes.close()


def _refuse_strangers_folder(path: Path, folder: os.stat_result) -> None:
    """Whoever can remove files there can make a living node look dead."""
    if folder.st_mode & stat.S_IWOTH:
        raise StorageUnavailable(f"cannot open {path}: everybody can write to it; chmod it to 700")
    if os.geteuid() not in (0, folder.st_uid):
        raise StorageUnavailable(
            f"cannot open {path}: it belongs to another user; run all nodes as the same one"
        )


def _try_flock(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
