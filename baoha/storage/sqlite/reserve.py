"""
Disk space that is kept for the HA lock: a file that is removed when nothing else is left.

Rules of this file:

1. Whoever fills the disk is not whoever must keep the lock: while the reserve is in use, only the
   jobs of the HA lock may write, and reads go on.
2. The reserve is one file for all processes of the store. Each of them may give it up, and makes it
   again as soon as there is room for it and a little more.
3. Only one thread of a process works on it (the writer's).

Theory of operation. A renewal needs some pages of the WAL. When the disk is full it finds none, the
lock runs out, and every node stops reading as well. So a file of fixed size stands beside the
database; its removal gives back what thousands of renewals need, and the checkpoint that comes
first, after which the WAL is written from its beginning again.

Source: ours; posix_fallocate(3): the blocks are really taken.
"""

from __future__ import annotations

import errno
import os
from typing import Final

from baoha.storage.sqlite.presence import PresenceFolder

NAME: Final = "reserve"
SIZE: Final = 8 * 1024 * 1024
# Beyond the reserve itself: without it, the first write after the recovery would use it up again.
HEADROOM: Final = 1024 * 1024
_MODE_FILE: Final = 0o600
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Reserve:
    """The reserve in a presence folder."""

    def __init__(self, folder: PresenceFolder) -> None:
        self._folder = folder

    def ensure(self) -> bool:
        """
        Make the reserve if it is not there.

        Returns:
            False: there is no room for it. Where it cannot be made for another reason the store
            works without: then a full disk costs the reads, too.
        """
        try:
            if os.stat(NAME, dir_fd=self._folder.fd, follow_symlinks=False).st_size >= SIZE:
                return True
        except OSError:
            pass  # made below
        try:
            space = os.fstatvfs(self._folder.fd)
            if space.f_bavail * space.f_frsize < SIZE + HEADROOM:
                return False
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(NAME, flags, _MODE_FILE, dir_fd=self._folder.fd)
        except OSError as exc:
            return exc.errno not in _NO_SPACE
        try:
            os.posix_fallocate(fd, 0, SIZE)
        except OSError as exc:
            # What was taken of it is needed.
            self._folder.remove(NAME)
            return exc.errno not in _NO_SPACE
        finally:
            os.close(fd)
        return True

    def give_up(self) -> bool:
        """Remove the reserve; False: there was none."""
        try:
            os.unlink(NAME, dir_fd=self._folder.fd)
        except OSError:
            return False
        return True
