"""One row for each code: where it stands, what finds it, and that nothing else tells of it."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from baoha.diagnostics.catalogue import CODES, GROUPS, rows_of
from baoha.diagnostics.code import Code, Finding, Seen, Severity, worst_first
from baoha.diagnostics.codes.addresses import NOT_ROUTABLE, ODD_HOST_NAME
from baoha.diagnostics.codes.forwarding import FORWARDING_OFF
from baoha.diagnostics.codes.leader import NODE_AWAY
from baoha.diagnostics.codes.port import CANNOT_LISTEN, PORT_CLOSED

ROOT = Path(__file__).resolve().parents[3]
ROWS = ROOT / "baoha" / "diagnostics" / "codes"
SOURCES = sorted([*(ROOT / "baoha").rglob("*.py"), *(ROOT / "cli").rglob("*.py")])
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FILES = sorted(path.stem for path in ROWS.glob("*.py") if path.stem != "__init__")
LITERAL = re.compile(r"""["']BH-[0-9]{3}""")
MENTION = re.compile(r"\bBH-[0-9]{3}\b")

CONFIGURATION = ("baoha/config/", "cli/baoha_cli/diagnose/checks/")
CHECKS = ("cli/baoha_cli/diagnose/checks/",)
NOT_THE_SERVER = ("baoha/config/", "baoha/diagnostics/", "baoha/sansio/")


def _relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _names() -> dict[Code, set[tuple[str, str]]]:
    """Return by which names (file, name) each row can be taken: its own, or a list of rows."""
    found: dict[Code, set[tuple[str, str]]] = {}
    for stem in FILES:
        module = f"baoha.diagnostics.codes.{stem}"
        for name, value in vars(import_module(module)).items():
            for code in value if isinstance(value, tuple) else (value,):
                if isinstance(code, Code):
                    found.setdefault(code, set()).add((module, name))
    return found


def _imports() -> dict[tuple[str, str], set[str]]:
    """Return which modules import a name, by its file and itself."""
    found: dict[tuple[str, str], set[str]] = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    found.setdefault((node.module, alias.name), set()).add(_relative(path))
    return found


NAMES = _names()
IMPORTS = _imports()


def _is_found(kind: Seen, users: set[str]) -> bool:
    if kind is Seen.PERSON:
        return not users
    if kind is Seen.FILE:
        return any(user.startswith(CONFIGURATION) for user in users)
    if kind is Seen.SERVER:
        return any(
            user.startswith("baoha/") and not user.startswith(NOT_THE_SERVER) for user in users
        )
    return any(user.startswith(CHECKS) for user in users)


@pytest.mark.parametrize("code", CODES.values(), ids=str)
def test_row_is_found_by_what_it_says(code: Code) -> None:
    users = set().union(*(IMPORTS.get(name, set()) for name in NAMES[code]))
    assert code.seen_in, "nothing finds it"
    for kind in code.seen_in:
        assert _is_found(kind, users), f"{code}: {kind} does not find it, used by {sorted(users)}"


def test_row_stands_in_the_file_of_its_hundred_in_order() -> None:
    hundreds = []
    for stem in FILES:
        rows = list(rows_of(import_module(f"baoha.diagnostics.codes.{stem}")))
        assert [code.id for code in rows] == sorted(code.id for code in rows)
        (hundred,) = {code.hundred for code in rows}
        hundreds.append(hundred)
    assert sorted(hundreds) == sorted(GROUPS)


def test_number_of_a_code_is_used_once() -> None:
    numbers = Counter(code.id for code in NAMES)
    assert [number for number, count in numbers.items() if count > 1] == []
    assert list(CODES) == sorted(numbers)


def test_check_file_of_each_hundred_has_its_name() -> None:
    checks = ROOT / "cli" / "baoha_cli" / "diagnose" / "checks"
    assert [stem for stem in FILES if not (checks / f"{stem}.py").exists()] == []


@pytest.mark.parametrize("code", CODES.values(), ids=str)
def test_code_that_is_explained_has_a_row_of_its_own(code: Code) -> None:
    explained = (*code.explains, *code.explains_everywhere)
    assert [other for other in explained if other not in CODES] == []
    assert code.id not in explained
    assert len(set(explained)) == len(explained)


def _literals() -> Iterator[str]:
    for path in SOURCES:
        if not path.is_relative_to(ROWS):
            for number, line in enumerate(path.read_text().splitlines(), start=1):
                if LITERAL.search(line):
                    yield f"{_relative(path)}:{number}"


def test_text_of_a_code_stands_in_its_row_only() -> None:
    assert list(_literals()) == []


@pytest.mark.parametrize("path", [*SOURCES, *PAGES], ids=_relative)
def test_code_that_source_or_page_names_has_a_row(path: Path) -> None:
    assert sorted(set(MENTION.findall(path.read_text())) - set(CODES)) == []


def test_row_that_something_finds_is_tried_by_a_test() -> None:
    tried = {
        found
        for path in (ROOT / "tests").rglob("*.py")
        for found in MENTION.findall(path.read_text())
    }
    found = [code.id for code in CODES.values() if code.seen_in != {Seen.PERSON}]
    assert [number for number in found if number not in tried] == []


# --- findings -------------------------------------------------------------------------------------


def test_finding_has_the_words_of_its_row_unless_the_case_has_its_own() -> None:
    usual = FORWARDING_OFF.at("b -> a", "text")
    assert (usual.severity, usual.why, usual.fix) == (
        FORWARDING_OFF.severity,
        FORWARDING_OFF.why,
        FORWARDING_OFF.fix,
    )
    case = FORWARDING_OFF.at(
        "b -> a", "text", severity=Severity.INFO, cause=PORT_CLOSED, detail="seen"
    )
    assert (case.severity, case.why, case.fix) == (Severity.INFO, "seen", PORT_CLOSED.fix)
    assert FORWARDING_OFF.at("", "text", cause=PORT_CLOSED, remedy="do").fix == "do"


def test_finding_as_text_says_its_code_and_what_to_do() -> None:
    assert str(ODD_HOST_NAME.at("", "odd", remedy="mend it")) == "odd (BH-119): mend it"
    assert CANNOT_LISTEN.sentence("cannot listen") == "BH-609 cannot listen"


def test_finding_is_remembered_by_its_code_and_place() -> None:
    assert NODE_AWAY.at("a", "5 s").key == NODE_AWAY.at("a", "6 s").key == "BH-316 a"
    assert ODD_HOST_NAME.at("", "x", file="a.hcl").key == "BH-119 a.hcl"
    assert ODD_HOST_NAME.at("", "x").key == "BH-119 cluster"


def test_findings_are_ordered_by_severity_code_and_place() -> None:
    listed: list[Finding] = [
        ODD_HOST_NAME.at("a", "x"),
        NODE_AWAY.at("b", "x"),
        NODE_AWAY.at("a", "x"),
        NOT_ROUTABLE.at("c", "x"),
    ]
    assert [item.key for item in worst_first(listed)] == [
        "BH-110 c",
        "BH-119 a",
        "BH-316 a",
        "BH-316 b",
    ]
