"""
ARCHITECTURE.md is true to the tree: its rooms are there, and no room is missing.

Method: every name in backticks of its tables is looked for below the folders that it may count
from; the order of imports is compared with the one that ``test_structure`` enforces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.unit.test_structure import ORDER, RANK, ROOT

PAGE = (ROOT / "ARCHITECTURE.md").read_text()
NAMED = re.compile(r"`([\w./-]+)`")
_GROUP = re.compile(r"\{([^}]*)\}|([\w.]+)")


def _section(heading: str) -> str:
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def _rows(heading: str) -> list[str]:
    """Return the rows of the table of a section, without its heads."""
    return [line for line in _section(heading).splitlines() if line.startswith("| ")][2:]


def _files(text: str) -> Iterator[tuple[str, bool]]:
    """Yield each file or folder that a cell names, and whether it is there."""
    before = ROOT / "baoha"
    for name in NAMED.findall(text):
        if "/" not in name and not name.endswith(".py"):
            continue  # a configuration key, a class
        places = (ROOT, ROOT / "baoha", before, before.parent, before.parent / "core")
        found = next((place / name for place in places if (place / name).exists()), None)
        if found is not None:
            before = found if found.is_dir() else found.parent
        yield name, found is not None


@pytest.mark.parametrize("heading", ["Where things are", "A forwarded write, room by room", "Load"])
def test_file_in_table_is_in_the_tree(heading: str) -> None:
    rows = _rows(heading)
    assert rows
    missing = []
    for row in rows:
        where = row.rstrip(" |").rpartition(" | ")[2]
        if where != "the same":
            found = list(_files(where))
            assert found, row
            missing += [name for name, is_there in found if not is_there]
    assert missing == []


def test_table_leads_to_every_room() -> None:
    """A room is a folder directly below ``baoha``; the table, or what it names, says what it is."""
    text = _section("Where things are")
    rooms = [path.parent.name for path in (ROOT / "baoha").glob("*/__init__.py")]
    assert [room for room in rooms if not re.search(rf"\b{room}/", text)] == []


def _groups() -> Iterator[list[set[str]]]:
    """Yield each line of imports as groups of rooms, named as in ``ORDER``."""
    block = _section("Where things are").partition("\n    ")[2].partition("\n\n")[0]
    for line in re.sub(r"\n +-> ", " -> ", block).splitlines():
        for sentence in line.split("; "):
            # Each group of "in x: a -> {b, c}", "x: a -> b" or "a -> b".
            above, colon, rest = sentence.strip().rpartition(":")
            if "->" not in rest:
                continue
            inside = above.removeprefix("in ") if colon else ""
            inside = {
                "": "baoha.",
                "cli": "baoha_cli.",
                "diagnose": "baoha_cli.diagnose.",
            }.get(inside, f"baoha.{inside}.")
            yield [
                {
                    inside + name.strip()
                    for name in (many or one).split(",")
                    if " " not in name.strip()
                }
                for many, one in _GROUP.findall(rest)
            ]


def _rank(name: str) -> int:
    """Return the rank of a room, or of the first one inside it if it is not one itself."""
    inside = [rank for room, rank in RANK.items() if room.startswith(f"{name}.")]
    return RANK[name] if name in RANK else min(inside)


def test_order_of_imports_is_the_one_that_is_enforced() -> None:
    lines = list(_groups())
    assert len(lines) >= 5
    for line in lines:
        last = -1
        for group in line:
            ranks = set(map(_rank, group))
            assert min(ranks) > last, f"{group} is out of order"
            last = max(ranks)


def test_order_of_imports_leaves_no_room_out() -> None:
    named = {name for line in _groups() for group in line for name in group}
    told_in_words = {"baoha.config", "baoha.storage.inmem", "baoha.storage.sqlite"}
    rooms = {room for group in ORDER for room in group}
    assert sorted(rooms - named - told_in_words) == []
