"""The page of diagnostics, and the words of the catalogue."""

from __future__ import annotations

from pathlib import Path

import pytest
from baoha_cli.failures import UsageFailed
from baoha_cli.manual.codes import catalogue_document, explanation_text, find_code
from baoha_cli.manual.codes_page import page

from baoha.diagnostics.catalogue import CODES, GROUPS

ROOT = Path(__file__).resolve().parents[3]


def test_page_in_the_tree_is_the_one_of_the_catalogue() -> None:
    written = (ROOT / "docs" / "cli" / "diagnostics.md").read_text()
    assert written == page(), "run: python -m baoha_cli.manual.codes_page > docs/cli/diagnostics.md"


def test_page_has_every_code_once_as_a_heading() -> None:
    headings = [line for line in page().splitlines() if line.startswith("### ")]
    assert [line[4:10] for line in headings] == list(CODES)
    assert all(f"## {title}" in page() for title in GROUPS.values())


@pytest.mark.parametrize("code", CODES)
def test_explanation_of_each_code_says_why_and_how_to_mend_it(code: str) -> None:
    text = explanation_text(CODES[code])
    assert text.startswith(f"{code}  ")
    assert "\n  why " in text
    assert "\n  fix " in text
    assert all(len(line) <= 100 for line in text.splitlines())


@pytest.mark.parametrize("text", ["BH-401", "bh-401", "401", "BH401", " bh-401 "])
def test_code_is_found_in_every_spelling(text: str) -> None:
    assert find_code(text).id == "BH-401"


def test_unknown_code_names_a_near_one() -> None:
    with pytest.raises(UsageFailed) as caught:
        find_code("BH-409")
    assert "did you mean BH-" in caught.value.hint


def test_list_of_checks_has_all_of_them_in_every_format() -> None:
    document = catalogue_document()
    assert document.names == list(CODES)
    assert document.records is not None
    assert len(document.records) == len(CODES)
    assert len(document.table(False).splitlines()) == len(CODES) + 1
