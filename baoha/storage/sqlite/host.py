"""
One machine, one clock, one local disk: what the sqlite store rests on, asked from the kernel.

Rules of this file:

1. What is not as it must be is refused when the store is opened, by name and with a code of its
   own; nothing is guessed later from odd behaviour.
2. No file of the database is opened here: closing any descriptor of a file gives up all POSIX locks
   that this process has on it, SQLite's own included.

Theory of operation. SQLite's WAL needs shared memory and file locks that all processes see; the HA
lock needs one clock (CLOCK_BOOTTIME) and file locks that end with their process. All of it holds
among the processes of one kernel on a local disk. A file system whose locks or memory belong to
another kernel as well is known by its type, a shifted clock by the offset of the time namespace.

Source: ours; proc(5) (mountinfo, fdinfo), time_namespaces(7), https://www.sqlite.org/wal.html.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from baoha.diagnostics.codes.health import CLOCK_SHIFTED, SHARED_FILE_SYSTEM
from baoha.errors import ConfigError

MOUNTS: Final = Path("/proc/self/mountinfo")
CLOCK_OFFSETS: Final = Path("/proc/self/timens_offsets")

# File systems that another kernel, or a program of its own, takes part in.
_SHARED: Final = frozenset(
    {
        *("9p", "afs", "beegfs", "ceph", "cifs", "coda", "gfs2", "gfs", "glusterfs", "gpfs"),
        *("lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "pvfs2", "smb3", "smbfs"),
        *("fuse", "fuseblk", "vboxsf", "virtiofs", "vmhgfs", "acfs", "prl_fs", "wekafs"),
    }
)
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class FileSystemMount:
    """
    The file system that a folder is in.

    Attributes:
        device: major:minor in hexadecimal, as ``/proc/locks`` writes it. What stat(2) says differs
            from it on file systems that show a device per subvolume (btrfs) or layer (overlay).
        kind: such as "ext4", "nfs4", "fuse.sshfs".
        point: where it is mounted.
    """

    device: str
    kind: str
    point: str

    @property
    def is_shared(self) -> bool:
        """Whether another kernel or a program takes part in it."""
        return self.kind in _SHARED or self.kind.partition(".")[0] in ("fuse", "fuseblk")


def mount_of(folder: Path) -> FileSystemMount:
    """
    Return the file system of a folder.

    Raises:
        OSError: the folder cannot be opened, or the kernel does not tell.
    """
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        lines = Path(f"/proc/self/fdinfo/{fd}").read_text(encoding="ascii").splitlines()
    finally:
        os.close(fd)
    number = next((line.split()[1] for line in lines if line.startswith("mnt_id:")), "")
    found = find_mount(MOUNTS.read_text(encoding="utf-8", errors="replace"), number)
    if found is None:
        raise FileNotFoundError(f"no mount {number} in {MOUNTS}")
    return found


def find_mount(table: str, number: str) -> FileSystemMount | None:
    """Return the mount of this number in the text of a ``mountinfo``; None: it is not there."""
    for line in table.splitlines():
        before, dash, after = line.partition(" - ")
        fields = before.split()
        if dash and len(fields) >= 5 and fields[0] == number:
            major, _, minor = fields[2].partition(":")
            point = _OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[4])
            return FileSystemMount(f"{int(major):02x}:{int(minor):02x}", after.split()[0], point)
    return None


def check_file_system(folder: Path) -> None:
    """
    Refuse a folder whose file locks and shared memory are not this kernel's alone.

    Raises:
        ConfigError: BH-923; or it cannot be found out.
    """
    try:
        mount = mount_of(folder)
    except OSError as exc:
        raise ConfigError(
            f"cannot find out on which file system {folder} is ({exc.strerror or exc}); a service "
            "unit must not hide /proc/self"
        ) from exc
    if mount.is_shared:
        raise ConfigError(
            SHARED_FILE_SYSTEM.sentence(
                f"{folder} is on a {mount.kind} file system ({mount.point}), where file locks and "
                "shared memory need not hold between nodes: put the sqlite store on a local disk "
                "(or set allow_network_filesystem = true while there is one node only)"
            ),
            code=SHARED_FILE_SYSTEM.id,
        )


def check_clock() -> None:
    """
    Refuse a boot-time clock that is not the machine's: expiry would mean another moment here.

    Raises:
        ConfigError: BH-924, this process is in a time namespace with an offset.
    """
    try:
        lines = CLOCK_OFFSETS.read_text(encoding="ascii").splitlines()
    except OSError:
        return  # a kernel without time namespaces
    for line in lines:
        clock, seconds, nanoseconds = line.split()
        if clock in ("boottime", "7") and (int(seconds) or int(nanoseconds)):
            raise ConfigError(
                CLOCK_SHIFTED.sentence(
                    f"the boot-time clock of this process is shifted by {seconds} s (a time "
                    "namespace), and the expiry of the HA lock is in boot time: run all nodes in "
                    "the machine's own time namespace"
                ),
                code=CLOCK_SHIFTED.id,
            )
