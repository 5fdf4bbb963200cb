"""Mount routing: the longest mounted prefix, compared with a linear scan."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baoha.sansio.routing import MountTable
from tests.support.steps import count_steps

SEGMENT = st.sampled_from(["a", "b", "ab", "", "data", "é"])
PATHS = st.lists(SEGMENT, min_size=1, max_size=5).map("/".join)
MOUNTS = st.sets(PATHS.map(lambda p: p.strip("/") + "/").filter(lambda p: p != "/"), max_size=8)


def linear_scan(mounts: set[str], path: str) -> str | None:
    """Return the longest mount that the path begins with, or equals without its slash."""
    found = [m for m in mounts if path.startswith(m) or path == m.removesuffix("/")]
    return max(found, key=len, default=None)


@given(mounts=MOUNTS, path=PATHS)
def test_match_any_table_agrees_with_linear_scan(mounts: set[str], path: str) -> None:
    table: MountTable[str] = MountTable()
    for mount in mounts:
        table.mount(mount, "target of " + mount)
    match = table.match(path)
    expected = linear_scan(mounts, path)
    assert (match.mount_path if match else None) == expected
    if match is not None:
        assert match.target == "target of " + match.mount_path
        assert match.mount_path + match.relative_path in (path, path + "/")


@given(mounts=MOUNTS, new=PATHS.map(lambda p: p.strip("/") + "/").filter(lambda p: p != "/"))
def test_conflict_any_table_is_a_mount_above_or_below(mounts: set[str], new: str) -> None:
    table: MountTable[str] = MountTable()
    for mount in mounts:
        table.mount(mount, mount)
    overlapping = {m for m in mounts if m.startswith(new) or new.startswith(m)}
    found = table.conflict(new)
    assert found in overlapping if overlapping else found is None


@pytest.mark.parametrize(
    ("path", "mount", "relative"),
    [
        ("secret/data/a", "secret/", "data/a"),
        ("secret/", "secret/", ""),
        ("secret", "secret/", ""),
        ("secrets/x", None, None),
        ("auth/token/create", "auth/token/", "create"),
        ("auth/x", None, None),
        ("", None, None),
        ("/", None, None),
    ],
)
def test_match_corner_cases(path: str, mount: str | None, relative: str | None) -> None:
    table: MountTable[int] = MountTable()
    table.mount("secret/", 1)
    table.mount("auth/token/", 2)
    match = table.match(path)
    assert (match and match.mount_path) == mount
    assert (match and match.relative_path) == relative


def test_unmount_removes_only_that_mount() -> None:
    table: MountTable[int] = MountTable()
    table.mount("a/", 1)
    table.mount("b/", 2)
    assert table.unmount("a/") == 1
    assert table.unmount("a/") is None
    assert table.match("a/x") is None
    assert table.match("b/x") is not None
    assert len(table) == 1


def test_match_cost_does_not_grow_with_the_depth_of_the_path() -> None:
    table: MountTable[str] = MountTable()
    table.mount("secret/", "kv")

    for start in ("", "secret/"):
        flat, deep = start + "a/" * 10, start + "a/" * 10_000
        assert (table.match(deep) is not None) == bool(start)
        # Walking every prefix took a thousand times as many.
        assert count_steps(partial(table.match, deep)) <= 2 * count_steps(
            partial(table.match, flat)
        )


def test_match_after_unmounting_the_longest() -> None:
    table: MountTable[str] = MountTable()
    table.mount("a/", "short")
    table.mount("b/long/path/", "long")
    table.unmount("b/long/path/")

    assert table.match("b/long/path/x") is None
    assert table.match("a") == ("a/", "short", "")
