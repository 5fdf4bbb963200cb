"""
The house of the tests as a test: sizes, and who may look inside what.

Rules come from tests/support/README.md.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
OUTSIDE_SUPPORT = [path for path in TESTS if not path.is_relative_to(ROOT / "tests" / "support")]
LINES_MAX = 600

# Public, whatever their names: those of ``collections.namedtuple`` and ``os``.
PUBLIC = frozenset({"_asdict", "_exit", "_fields", "_replace"})


def _relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _reaches_inside(tree: ast.AST) -> Iterator[str]:
    """Yield what is private to an object that is not ``self``."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not node.attr.startswith("_"):
            continue
        is_own = ast.unparse(node.value) in ("self", "cls", "super()")
        if not (is_own or node.attr.startswith("__") or node.attr in PUBLIC):
            yield f"line {node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("path", TESTS, ids=_relative)
def test_size_of_test_module_is_readable(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES_MAX


@pytest.mark.parametrize("path", OUTSIDE_SUPPORT, ids=_relative)
def test_test_outside_support_looks_at_what_is_public(path: Path) -> None:
    found = list(_reaches_inside(ast.parse(path.read_text())))
    assert found == []
