"""The memory that a process may use: the machine's, or what its control groups leave of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from baoha.server.memory import usable_bytes

MACHINE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
SMALL = 64 * 1024 * 1024


@pytest.mark.parametrize(
    ("own", "limits", "expected"),
    [
        ("", {}, MACHINE),
        ("0::/\n", {"memory.max": "max\n"}, MACHINE),
        ("0::/\n", {"memory.max": f"{SMALL}\n"}, SMALL),
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": f"{SMALL}\n"}, SMALL),
        ("0::/a/b\n", {"memory.max": f"{SMALL}\n"}, SMALL),
        ("0::/a\n", {"a/memory.max": f"{SMALL}\n", "b/memory.max": "4096\n"}, SMALL),
        ("0::/a\n", {"a/memory.max": f"{MACHINE * 2}\n"}, MACHINE),
        ("0::/a\n", {"a/memory.max": "nonsense"}, MACHINE),
        ("0::/a\n", {"a/memory.max": "0"}, MACHINE),
        ("4:cpu:/\n3:memory:/x\n", {"memory/x/memory.limit_in_bytes": str(SMALL)}, SMALL),
        ("3:memory:/x\n", {"memory/memory.limit_in_bytes": str(2**63 - 4096)}, MACHINE),
        ("3:cpu,memory:/\n", {"memory/memory.limit_in_bytes": str(SMALL)}, SMALL),
        ("not a line", {"memory.max": str(SMALL)}, MACHINE),
    ],
)
def test_usable_memory_is_the_least_limit(
    own: str, limits: dict[str, str], expected: int, tmp_path: Path
) -> None:
    root = tmp_path / "groups"
    for name, text in limits.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (tmp_path / "own").write_text(own)
    assert usable_bytes(own=tmp_path / "own", root=root) == expected


def test_usable_memory_without_control_groups_is_the_machine_s(tmp_path: Path) -> None:
    assert usable_bytes(own=tmp_path / "none", root=tmp_path) == MACHINE
    assert 0 < usable_bytes() <= MACHINE
