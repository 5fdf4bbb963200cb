"""
Time, version, health and store (BH-9xx).

Rule of this file: one row for each code, and nothing else. A number and its meaning are for ever. A
node that runs says BH-921, BH-922 and BH-925 itself (sys/health); one that is refused at its start
says BH-923, BH-924 or BH-926 on its way out.

Source: docs/spec/cluster-cli.md section 6.2 I; BH-92x are ours.
"""

from __future__ import annotations

from typing import Final

from baoha.diagnostics.code import Area, Code, Seen, Severity

_AREAS: Final = frozenset({Area.ADDRESSES})

CLOCKS_DIFFER: Final = Code(
    "BH-901",
    Severity.WARNING,
    "clocks of the nodes differ",
    symptom="Odd expiry of leases; locks that never expire; TLS not yet valid.",
    why="1 s is a warning, 5 s an error.",
    fix="NTP.",
    areas=frozenset({Area.CLOCK}),
    seen_in=frozenset({Seen.LOOK}),
)

CLOCK_HERE_DIFFERS: Final = Code(
    "BH-902",
    Severity.INFO,
    "the clock here differs from the nodes'",
    symptom='OIDC or JWT "expired".',
    why="Tokens of this machine look too old or too new.",
    fix="NTP here.",
    areas=frozenset({Area.CLOCK}),
    seen_in=frozenset({Seen.LOOK}),
)

VERSIONS_DIFFER: Final = Code(
    "BH-903",
    Severity.WARNING,
    "different versions",
    symptom="Mixed cluster.",
    why="A mixed cluster is fine for the time of an upgrade only.",
    fix="Finish the upgrade, standbys first.",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK}),
)

STANDBY_OLDER: Final = Code(
    "BH-904",
    Severity.ERROR,
    "a standby is older than the active node",
    symptom="A step-down goes backwards.",
    why="An older node that takes over may not understand what the newer one wrote.",
    fix="Upgrade it first; do not step down before.",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK}),
    explains_everywhere=("BH-903",),
)

KNOWN_BUG: Final = Code(
    "BH-905",
    Severity.WARNING,
    "version with a known HA bug",
    why="The version is in the list of known bugs.",
    fix="Upgrade.",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK}),
)

GREEN_BUT_FAILING: Final = Code(
    "BH-906",
    Severity.ERROR,
    "health is green while requests fail",
    symptom="Green but broken.",
    why="sys/health says 200 or 429 while what is asked fails.",
    fix="Do not trust health alone; use a check that knows the leader (`status --expect ready`).",
    areas=_AREAS | {Area.FORWARDING},
    seen_in=frozenset({Seen.PROBE_ACTIVE}),
    may_be_election=True,
)

SLOW_STORE: Final = Code(
    "BH-907",
    Severity.WARNING,
    "sys/leader is slow while sys/health is fast",
    symptom="It hangs.",
    why="The store is slow or stuck.",
    fix="Look at the store.",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK}),
    may_be_election=True,
)

STORE_IN_ERROR_TEXTS: Final = Code(
    "BH-908",
    Severity.WARNING,
    "error texts show where the store is",
    symptom="Secrets in errors.",
    why="Strangers can read host, user or database of the store.",
    fix="Upgrade, or filter the answers.",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK}),
)

PRODUCT: Final = Code(
    "BH-909",
    Severity.INFO,
    "product and cluster",
    why="What answers here, by the features seen.",
    fix="Nothing to do.",
    areas=_AREAS,
    seen_in=frozenset({Seen.LOOK}),
    on_request=True,
)

STORE_DOWN: Final = Code(
    "BH-910",
    Severity.ERROR,
    "the store is down",
    symptom="500 on everything; `bao status` exits 1.",
    why="No node can work without its store.",
    fix="Repair the store; do not restart nodes.",
    areas=_AREAS | {Area.FORWARDING},
    seen_in=frozenset({Seen.LOOK}),
    may_be_election=True,
    explains_everywhere=(
        "BH-301",
        "BH-304",
        "BH-906",
        "BH-907",
        "BH-908",
        "BH-404",
    ),
)

WRITE_LOCK_HELD: Final = Code(
    "BH-921",
    Severity.ERROR,
    "another process holds the write lock of the store",
    symptom="Nobody becomes active after a node has frozen; every write fails.",
    why=(
        "SQLite has one writer. One that does not run (a tracer, a frozen cgroup, a hanging "
        "disk) keeps its lock, and no other node can take over."
    ),
    fix=(
        "Let the process with this pid go on (docker unpause, systemctl thaw, end the "
        "debugger), or kill it: other nodes then take over at once. fence_by_kill = true in the"
        " storage block has them do that to a frozen node."
    ),
    areas=frozenset({Area.FORWARDING}),
    seen_in=frozenset({Seen.LOOK, Seen.SERVER}),
)

DISK_FULL: Final = Code(
    "BH-922",
    Severity.ERROR,
    "the disk of the store is full",
    symptom="Reads work, every write fails with 500.",
    why="The rest of the disk is kept for the HA lock, so that the cluster stays readable.",
    fix="Free space, or enlarge the disk; the nodes go on by themselves.",
    areas=frozenset({Area.FORWARDING}),
    seen_in=frozenset({Seen.LOOK, Seen.SERVER}),
)

SHARED_FILE_SYSTEM: Final = Code(
    "BH-923",
    Severity.ERROR,
    "the store is on a file system that other machines or programs share",
    symptom="The node does not start.",
    why="File locks and shared memory need not hold there between nodes: two could be active.",
    fix="Put the sqlite store on a local disk.",
    seen_in=frozenset({Seen.SERVER}),
)

CLOCK_SHIFTED: Final = Code(
    "BH-924",
    Severity.ERROR,
    "the boot-time clock of a node is shifted",
    symptom="The node does not start.",
    why=(
        "The HA lock expires by CLOCK_BOOTTIME, which must be the same for all nodes; in a time"
        " namespace with an offset it is not."
    ),
    fix="Run all nodes in the machine's own time namespace.",
    seen_in=frozenset({Seen.SERVER}),
)

FOREIGN_BOOT_ID: Final = Code(
    "BH-925",
    Severity.ERROR,
    "a node sees another boot id than the holder of the HA lock",
    symptom="A node stands by and never takes over.",
    why=(
        "A lock of another boot counts as free. The holder lives all the same, so the boot id "
        "that this node sees is not the machine's (systemd-nspawn gives containers one of their"
        " own)."
    ),
    fix="Show all nodes the machine's /proc/sys/kernel/random/boot_id.",
    areas=frozenset({Area.FORWARDING}),
    seen_in=frozenset({Seen.LOOK, Seen.SERVER}),
)

NO_SHARED_MEMORY: Final = Code(
    "BH-926",
    Severity.ERROR,
    "the file system has no shared memory for SQLite's WAL",
    symptom="The node does not start.",
    why="Without it SQLite falls back to another journal, with other rules for locks and commits.",
    fix="Put the sqlite store on a local disk.",
    seen_in=frozenset({Seen.SERVER}),
)

# What a node says of its store in sys/health, to everybody: their sentences name no path.
SAID_IN_HEALTH: Final = (WRITE_LOCK_HELD, DISK_FULL, FOREIGN_BOOT_ID)
