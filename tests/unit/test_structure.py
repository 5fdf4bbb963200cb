"""
The architecture as a test: import directions, homes of third-party packages, sizes, banned calls.

Rules come from ARCHITECTURE.md. An exemption is a line in a list below, with its reason, and the
lists may only shrink.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVER = sorted((ROOT / "baoha").rglob("*.py"))
CLI = sorted((ROOT / "cli" / "baoha_cli").rglob("*.py"))

# Each package may import itself and whatever stands to the right of it.
ORDER = [
    {"server"},
    {"node"},
    {"api", "ha"},
    {"cluster"},
    {"core"},
    {"storage"},
    {"offload"},
    {"sansio"},
    {"timing"},
    {"asgi", "diagnostics", "errors", "names"},
]
RANK = {name: rank for rank, group in enumerate(ORDER) for name in group}
# Read by the server alone; needs only values from the far right.
CONFIG_MAY_IMPORT = {"config", "sansio", "timing", "diagnostics", "errors", "names"}
CONFIG_IMPORTED_BY = {"config", "server"}

HOMES = {
    "hypercorn": ("baoha/server/",),
    "h2": ("baoha/server/",),
    "trio_websocket": ("baoha/cluster/transport.py",),
    "tomli": ("baoha/config/", "cli/baoha_cli/"),
    "typer": ("cli/baoha_cli/",),
    "sqlite3": ("baoha/storage/sqlite",),
    "cryptography": ("baoha/sansio/", "baoha/cluster/", "baoha/server/http/tls", "cli/baoha_cli/"),
}
PURE_BANNED = {"trio", "socket", "time", "random", "secrets", "logging", "threading", "os"}

BANNED_CALLS = {
    "time.sleep": "trio.sleep",
    "time.time": "a timestamp passed in",
    "datetime.utcnow": "a timestamp passed in",
    "asyncio.run": "trio.run",
}
# A thread of its own may sleep: it holds up nobody's event loop.
SLEEPING_THREADS = ("baoha/storage/sqlite",)
LINES_MAX = 500
FUNCTION_LINES_MAX = 70


def _relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _package(path: Path) -> str:
    inside = path.relative_to(ROOT / "baoha").parts
    return inside[0].removesuffix(".py")


def _imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module, node.lineno
            if node.module == "baoha":
                for alias in node.names:
                    yield f"baoha.{alias.name}", node.lineno


@pytest.mark.parametrize("path", SERVER, ids=_relative)
def test_import_of_server_module_goes_one_way(path: Path) -> None:
    package = _package(path)
    if package == "__init__":
        return
    for module, line in _imports(ast.parse(path.read_text())):
        parts = module.split(".")
        if parts[0] == "baoha_cli":
            pytest.fail(f"{_relative(path)}:{line} imports the command line")
        if parts[0] != "baoha" or len(parts) < 2 or parts[1] == "__version__":
            continue
        target = parts[1]
        where = f"{_relative(path)}:{line} imports {module}"
        if package == "config":
            assert target in CONFIG_MAY_IMPORT, where
        elif target == "config":
            assert package in CONFIG_IMPORTED_BY, where
        elif target != package:
            assert RANK[target] > RANK[package], f"{where}: against the direction"


@pytest.mark.parametrize("path", SERVER + CLI, ids=_relative)
def test_import_of_third_party_package_stays_in_its_home(path: Path) -> None:
    for module, line in _imports(ast.parse(path.read_text())):
        homes = HOMES.get(module.split(".")[0])
        if homes is not None:
            assert _relative(path).startswith(homes), f"{_relative(path)}:{line} imports {module}"


@pytest.mark.parametrize(
    "path", [path for path in SERVER if _package(path) == "sansio"], ids=_relative
)
def test_import_of_pure_module_has_no_world(path: Path) -> None:
    for module, line in _imports(ast.parse(path.read_text())):
        assert module.split(".")[0] not in PURE_BANNED, f"{_relative(path)}:{line} {module}"


@pytest.mark.parametrize("path", SERVER + CLI, ids=_relative)
def test_size_of_module_is_readable(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= LINES_MAX, _relative(path)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= FUNCTION_LINES_MAX, f"{_relative(path)}:{node.lineno} {node.name}"


@pytest.mark.parametrize("path", SERVER + CLI, ids=_relative)
def test_call_that_is_banned_does_not_occur(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called == "time.sleep" and _relative(path).startswith(SLEEPING_THREADS):
                continue
            assert called not in BANNED_CALLS, (
                f"{_relative(path)}:{node.lineno} calls {called}: use {BANNED_CALLS.get(called)}"
            )
            if called.endswith("CancelScope") and _shields_for_ever(node):
                pytest.fail(f"{_relative(path)}:{node.lineno} shields without a deadline")
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            pytest.fail(f"{_relative(path)}:{node.lineno} has a bare except")


def _shields_for_ever(call: ast.Call) -> bool:
    keywords = {keyword.arg for keyword in call.keywords}
    return "shield" in keywords and not keywords & {"deadline", "relative_deadline"}


@pytest.mark.parametrize("path", SERVER + CLI, ids=_relative)
def test_docstring_of_module_exists(path: Path) -> None:
    text = path.read_text()
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), f"{_relative(path)} has no docstring"


def test_name_of_module_says_what_it_is() -> None:
    vague = {"utils", "helpers", "common", "manager", "misc"}
    assert [_relative(path) for path in SERVER + CLI if path.stem in vague] == []
