"""
What comments, docstrings and pages cite is in the tree: files, sections, headings, first readings.

Rules of this file: it reads comments and docstrings alone, never code, and it knows no document. A
path in a citation counts from the root of the repository; ``x.py`` in backticks in the docstring of
a package counts from the package.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted(
    path
    for folder in ("baoha", "cli", "benchmarks", "testbed", "tests")
    for path in (ROOT / folder).rglob("*.py")
)
PACKAGES = [
    path
    for path in MODULES
    if path.name == "__init__.py" and not path.is_relative_to(ROOT / "tests")
]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])

# "@file.json" is an argument of a command and "*.json" a pattern of files; both name no document.
CITED = re.compile(r"(?<![\w@./*~<>-])([\w][\w./*-]*\.(?:md|json))\b")
NUMBER = r"\d+(?:\.\d+)*(?: [A-Z]\b)?|[A-Z]\b"
SECTIONS = re.compile(
    rf"([\w./-]+\.md),? sections? ((?:{NUMBER})(?:(?: \([^)]*\))?(?:, | and | to )(?:{NUMBER}))*)"
)
# The pages of facts are long: who cites one says where in it.
OF_FACTS = re.compile(r"docs/spec/[\w-]+\.md")
QUOTED = re.compile(r'([\w./-]+\.md), "([^"]+)"')
# A section of a document without its name, or of documents that were never here.
NAMELESS = re.compile(
    r"\b[Ss]pec(?:ification)? (?:section )?\d|\b(?:DESIGN|STACK|STYLE)\b|features/"
)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
# A path of the tree in a page: from the root, in backticks.
IN_PAGE = re.compile(r"`((?:baoha|cli|tests|benchmarks|testbed|docs|examples)/[\w./-]*)`")
MODULE = re.compile(r"``([\w/]+\.py)``")


def _relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _docstrings(tree: ast.AST) -> Iterator[str]:
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree):
        if isinstance(node, kinds) and (text := ast.get_docstring(node)):
            yield text


def _comments(text: str) -> Iterator[str]:
    """Yield comments; those that stand on lines one below the other are one."""
    block: list[str] = []
    last_row = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        if block and token.start[0] != last_row + 1:
            yield "\n".join(block)
            block = []
        block.append(token.string.lstrip("# "))
        last_row = token.start[0]
    if block:
        yield "\n".join(block)


@cache
def _prose(path: Path) -> tuple[str, ...]:
    """Return what people wrote for people in a module, each text on one line."""
    text = path.read_text()
    return tuple(" ".join(one.split()) for one in (*_docstrings(ast.parse(text)), *_comments(text)))


@cache
def _headings(page: str) -> tuple[str, ...]:
    return tuple(HEADING.findall((ROOT / page).read_text()))


def _numbers(text: str) -> Iterator[str]:
    """Yield section numbers: "6.2 C, D and E" are "6.2 C", "6.2 D" and "6.2 E"."""
    number = ""
    for found in re.findall(NUMBER, re.sub(r"\([^)]*\)", "", text)):
        if found[0].isdigit():
            number = found.partition(" ")[0]
            yield found
        else:
            yield f"{number} {found}"


def _problems(text: str) -> Iterator[str]:
    """Yield what is wrong with the citations of one text."""
    for name in CITED.findall(text):
        if "*" in name or not (ROOT / name).is_file():
            yield f"{name} is not in the tree"
    for page, numbers in SECTIONS.findall(text):
        for number in _numbers(numbers):
            known = (ROOT / page).is_file() and [*_headings(page)]
            if not any(heading.startswith(f"{number} ") for heading in known or ()):
                yield f"{page} has no section {number}"
    for found in OF_FACTS.finditer(text):
        if not SECTIONS.match(text, found.start()):
            yield f"{found[0]} is cited without a section"
    for page, heading in QUOTED.findall(text):
        if not (ROOT / page).is_file() or heading not in _headings(page):
            yield f'{page} has no heading "{heading}"'
    for nameless in NAMELESS.findall(text):
        yield f'"{nameless}" does not say of which document'


@pytest.mark.parametrize("path", MODULES, ids=_relative)
def test_citation_in_prose_of_module_leads_somewhere(path: Path) -> None:
    problems = [problem for text in _prose(path) for problem in _problems(text)]
    assert problems == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Source: docs/spec/openbao-ha.md sections 2.5, 2.7 and 5.4; tests only.", 0),
        ("Source: docs/spec/cluster-cli.md section 6.2 C, D and E.", 0),
        ("Source: docs/spec/cluster-cli.md sections 3.3 (the table) and 2.3 (the JSON).", 0),
        ('See ARCHITECTURE.md, "Invariants", and @file.json.', 0),
        ("Source: docs/spec/openbao-ha.md section 2.99.", 1),
        ("Source: docs/spec/cluster-cli.md section 6.2 C, D and Z.", 1),
        ("Source: docs/spec/cluster-cli.md sections 3.3 (the table) and 9.3 (the JSON).", 1),
        ("Source: docs/spec/openbao-ha.md, measured.", 1),
        ('See ARCHITECTURE.md, "Variants".', 1),
        ("Source: DESIGN.md section 5.", 3),
        ("Source: spec 11.22.", 1),
        ("Texts as recorded (features/kv2.json).", 2),
        ("As recorded (tests/conformance/recordings/*.json).", 1),
    ],
)
def test_citation_that_leads_nowhere_is_found(text: str, count: int) -> None:
    assert len(list(_problems(text))) == count


@pytest.mark.parametrize("page", PAGES, ids=_relative)
def test_path_in_page_is_in_the_tree(page: Path) -> None:
    named = IN_PAGE.findall(page.read_text())
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("path", PACKAGES, ids=_relative)
def test_docstring_of_package_says_what_is_here_in_three_lines_or_more(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert len(text.splitlines()) >= 3
    places = (path.parent, path.parent.parent, ROOT)
    named = MODULE.findall(text)
    assert [name for name in named if not any((place / name).exists() for place in places)] == []
