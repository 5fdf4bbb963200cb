"""
The catalogue, fourth part: the store under the cluster.

Rule of this file: words only. A node that runs says BH-921, BH-922 and BH-925 itself (sys/health);
one that is refused at its start says the others on its way out.

Source: ours.
"""

from __future__ import annotations

from typing import Final

from baoha.diagnostics.codes.addresses import E, Row

ROWS: Final = (
    Row(
        "BH-921",
        E,
        "another process holds the write lock of the store",
        "Nobody becomes active after a node has frozen; every write fails.",
        "SQLite has one writer. One that does not run (a tracer, a frozen cgroup, a hanging disk) "
        "keeps its lock, and no other node can take over.",
        "Let the process with this pid go on (docker unpause, systemctl thaw, end the debugger), "
        "or kill it: other nodes then take over at once. fence_by_kill = true in the storage block "
        "has them do that to a frozen node.",
    ),
    Row(
        "BH-922",
        E,
        "the disk of the store is full",
        "Reads work, every write fails with 500.",
        "The rest of the disk is kept for the HA lock, so that the cluster stays readable.",
        "Free space, or enlarge the disk; the nodes go on by themselves.",
    ),
    Row(
        "BH-923",
        E,
        "the store is on a file system that other machines or programs share",
        "The node does not start.",
        "File locks and shared memory need not hold there between nodes: two could be active.",
        "Put the sqlite store on a local disk.",
    ),
    Row(
        "BH-924",
        E,
        "the boot-time clock of a node is shifted",
        "The node does not start.",
        "The HA lock expires by CLOCK_BOOTTIME, which must be the same for all nodes; in a time "
        "namespace with an offset it is not.",
        "Run all nodes in the machine's own time namespace.",
    ),
    Row(
        "BH-925",
        E,
        "a node sees another boot id than the holder of the HA lock",
        "A node stands by and never takes over.",
        "A lock of another boot counts as free. The holder lives all the same, so the boot id that "
        "this node sees is not the machine's (systemd-nspawn gives containers one of their own).",
        "Show all nodes the machine's /proc/sys/kernel/random/boot_id.",
    ),
    Row(
        "BH-926",
        E,
        "the file system has no shared memory for SQLite's WAL",
        "The node does not start.",
        "Without it SQLite falls back to another journal, with other rules for locks and commits.",
        "Put the sqlite store on a local disk.",
    ),
)
