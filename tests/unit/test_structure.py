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

# Rooms, from the top to the bottom: a room may import itself and the rooms of later lines. A module
# is in the room with the longest name that its own begins with.
ORDER = [
    {"baoha_cli.__main__"},
    {"baoha_cli.entry"},
    {"baoha_cli.commands"},
    {"baoha_cli.manual"},
    {"baoha_cli.main"},
    {"baoha_cli.operate"},
    {"baoha_cli.diagnose.report"},
    {"baoha_cli.diagnose.run"},
    {"baoha_cli.diagnose.judge"},
    {"baoha_cli.diagnose.checks"},
    {"baoha_cli.diagnose.gather"},
    {"baoha_cli.diagnose.evidence", "baoha_cli.diagnose.judgement"},
    {"baoha_cli.survey"},
    {"baoha_cli.shell"},
    {"baoha_cli.client", "baoha_cli.output"},
    {"baoha_cli.failures"},
    {"baoha_cli.exits", "baoha_cli.interrupts", "baoha_cli.registry", "baoha_cli.text"},
    {"baoha.server.dev"},
    {"baoha.server"},
    {"baoha.server.http"},
    {"baoha.config"},
    {"baoha.node"},
    {"baoha.api", "baoha.ha"},
    {"baoha.cluster"},
    {"baoha.core.exercise", "baoha.core.maintenance"},
    {"baoha.core.dispatch", "baoha.core.engines"},
    {"baoha.core.services"},
    {"baoha.core.access", "baoha.core.mounts"},
    {"baoha.core.framework"},
    {"baoha.core.keys"},
    {"baoha.core.view"},
    {"baoha.core.request"},
    {
        "baoha.storage.exercise",
        "baoha.storage.faulty",
        "baoha.storage.inmem",
        "baoha.storage.sqlite",
    },
    {"baoha.storage.registry"},
    {"baoha.storage.lock_rules", "baoha.storage.store_type"},
    {"baoha.storage.base", "baoha.storage.keys", "baoha.storage.retry", "baoha.storage.settings"},
    {"baoha.offload"},
    {"baoha.sansio"},
    {"baoha.timing"},
    {"baoha.asgi", "baoha.diagnostics", "baoha.errors", "baoha.names"},
]
RANK = {name: rank for rank, group in enumerate(ORDER) for name in group}
_VALUES = {"baoha.diagnostics", "baoha.errors", "baoha.names", "baoha.sansio", "baoha.timing"}
# Narrower than the order: what these may import besides themselves.
ONLY = {
    "baoha.config": _VALUES,
    "baoha_cli": {*_VALUES, "baoha.config", "baoha.storage.registry", "baoha.storage.store_type"},
}
# Narrower than the order: who may import these.
CONFIG_IMPORTED_BY = ("baoha.server", "baoha_cli")
SERVER_IMPORTED_BY = ("baoha.server", "baoha_cli.commands.server")
# Arrows against the order, each with the reason why it is still there.
AGAINST: set[tuple[str, str]] = set()
# Values in, values out: rooms and single modules that know no clock, no task and no file.
PURE = (
    "baoha/api/standby_policy.py",
    "baoha/diagnostics/",
    "baoha/ha/leader_picture.py",
    "baoha/sansio/",
    "baoha/storage/lock_rules.py",
    "cli/baoha_cli/diagnose/checks/",
    "cli/baoha_cli/diagnose/evidence.py",
    "cli/baoha_cli/diagnose/judgement.py",
)

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
# What decides is elsewhere: these may not grow back. Lines, and attributes of the largest class.
STAYS_SMALL = {"baoha/ha/standby.py": (260, 8)}
FUNCTION_LINES_MAX = 70
# Whoever holds more than this does more than one thing. A record of values may have as many rows as
# there are; of the HA machinery's records, which hold parts, none may.
ATTRIBUTES_MAX = 12
PARTS = ("baoha/ha/", "baoha/node/")
MANY_ATTRIBUTES = {
    # Evidence as it is gathered: one attribute for each kind of it.
    "_Gathering": "cli/baoha_cli/diagnose/gather/gather.py",
    # hypercorn's class, whose attributes it has to set.
    "Connection": "baoha/server/http/connection.py",
}


def _relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _module(path: Path) -> str:
    inside = path.relative_to(ROOT / "cli" if path.is_relative_to(ROOT / "cli") else ROOT)
    return ".".join(inside.with_suffix("").parts).removesuffix(".__init__")


def _is_in(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


def _room(module: str) -> str | None:
    return max((room for room in RANK if _is_in(module, room)), key=len, default=None)


def _imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            assert node.module
            yield node.module, node.lineno
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node.lineno


def _may_import(module: str, room: str, other: str, target: str) -> bool:
    """Return whether a module of one room may import a module of another."""
    for narrow, allowed in ONLY.items():
        if _is_in(module, narrow) and not _is_in(target, narrow) and other not in allowed:
            return _is_in(target, "baoha.server") and module.startswith(SERVER_IMPORTED_BY)
    if other == "baoha.config" and not module.startswith(CONFIG_IMPORTED_BY):
        return False
    return RANK[other] > RANK[room] or (room, other) in AGAINST


@pytest.mark.parametrize("path", SERVER + CLI, ids=_relative)
def test_import_of_module_goes_one_way(path: Path) -> None:
    module = _module(path)
    room = _room(module)
    for target, line in _imports(ast.parse(path.read_text())):
        other = _room(target)
        if other is None or other == room:
            continue
        where = f"{_relative(path)}:{line} imports {target}"
        assert room is not None, f"{where}, and is in no room"
        assert _may_import(module, room, other, target), f"{where}: against the direction"
    assert room is not None or path.name == "__init__.py", f"{module} is in no room"


def test_arrow_against_the_order_is_still_there() -> None:
    found = set()
    for path in SERVER + CLI:
        for target, _ in _imports(ast.parse(path.read_text())):
            found.add((_room(_module(path)), _room(target)))
    assert found >= AGAINST


def test_room_of_the_order_exists() -> None:
    there = {_module(path) for path in SERVER + CLI}
    assert sorted(room for room in RANK if room not in there) == []


@pytest.mark.parametrize("path", SERVER + CLI, ids=_relative)
def test_import_of_third_party_package_stays_in_its_home(path: Path) -> None:
    for module, line in _imports(ast.parse(path.read_text())):
        homes = HOMES.get(module.split(".")[0])
        if homes is not None:
            assert _relative(path).startswith(homes), f"{_relative(path)}:{line} imports {module}"


@pytest.mark.parametrize(
    "path", [path for path in SERVER + CLI if _relative(path).startswith(PURE)], ids=_relative
)
def test_import_of_pure_module_has_no_world(path: Path) -> None:
    for module, line in _imports(ast.parse(path.read_text())):
        assert module.split(".")[0] not in PURE_BANNED, f"{_relative(path)}:{line} {module}"


def test_pure_module_exists() -> None:
    assert [name for name in PURE if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("path", SERVER + CLI, ids=_relative)
def test_size_of_module_is_readable(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= LINES_MAX, _relative(path)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or 0) - node.lineno + 1
            assert lines <= FUNCTION_LINES_MAX, f"{_relative(path)}:{node.lineno} {node.name}"


def _classes(path: Path) -> Iterator[tuple[ast.ClassDef, set[str]]]:
    """Yield the classes of a file that hold parts, with the names of their attributes."""
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ClassDef):
            continue
        is_record = any("dataclass" in ast.unparse(each) for each in node.decorator_list)
        if is_record and not _relative(path).startswith(PARTS):
            continue
        yield (
            node,
            {
                each.attr
                for each in ast.walk(node)
                if isinstance(each, ast.Attribute)
                and isinstance(each.ctx, ast.Store)
                and ast.unparse(each.value) == "self"
            }
            | {
                each.target.id
                for each in node.body
                if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
            },
        )


@pytest.mark.parametrize("name", STAYS_SMALL)
def test_module_that_only_obeys_stays_small(name: str) -> None:
    lines_max, attributes_max = STAYS_SMALL[name]
    assert len((ROOT / name).read_text().splitlines()) <= lines_max
    for node, attributes in _classes(ROOT / name):
        assert len(attributes) <= attributes_max, f"{node.name}: {sorted(attributes)}"


@pytest.mark.parametrize("path", SERVER + CLI, ids=_relative)
def test_class_holds_no_more_than_it_can_be_read_with(path: Path) -> None:
    for node, attributes in _classes(path):
        if MANY_ATTRIBUTES.get(node.name) != _relative(path):
            assert len(attributes) <= ATTRIBUTES_MAX, (
                f"{_relative(path)}:{node.lineno} {node.name}: {sorted(attributes)}"
            )


def test_class_with_many_attributes_still_has_them() -> None:
    found = {
        node.name
        for path in SERVER + CLI
        for node, attributes in _classes(path)
        if len(attributes) > ATTRIBUTES_MAX and MANY_ATTRIBUTES.get(node.name) == _relative(path)
    }
    assert found == set(MANY_ATTRIBUTES)


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


def test_name_of_public_class_occurs_once() -> None:
    found: dict[str, list[str]] = {}
    for path in SERVER + CLI:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(_relative(path))
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


@pytest.mark.parametrize("path", SERVER + CLI, ids=_relative)
def test_docstring_of_function_says_what_it_returns(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            begin = (ast.get_docstring(node) or "").split()[:2]
            assert begin not in (["Say", "whether"], ["Tell", "whether"]), node.name
