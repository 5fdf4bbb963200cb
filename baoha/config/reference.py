"""
The tables of ``docs/configuration.md``, written from the schema.

Rule of this file: the page holds, between its markers, exactly what ``table`` returns; a test
compares, so that a key cannot be added without being documented. To write them anew:
``python -m baoha.config.reference docs/configuration.md``.

Source: ours.
"""

from __future__ import annotations

import sys
from pathlib import Path

from baoha.config.options import Option
from baoha.config.schema import NO_EFFECT, SECTIONS


def table(name: str) -> str:
    """
    Return the Markdown table of a section, or of the keys without effect ("no-effect.").

    Args:
        name: a key of ``SECTIONS``, or "no-effect." and a key of ``NO_EFFECT``.
    """
    if name.startswith("no-effect."):
        group = NO_EFFECT[name.removeprefix("no-effect.")]
        rows: list[tuple[str, ...]] = [("Key", "Why it has no effect"), ("---", "---")]
        rows += [(f"`{key}`", why) for key, why in group.items()]
        return _lines(rows)
    shown: list[tuple[str, ...]] = [("Key", "Kind", "Default", "What it is"), ("---",) * 4]
    shown += [_row(option) for option in SECTIONS[name].values()]
    return _lines(shown)


def markers(name: str) -> tuple[str, str]:
    """
    Return the lines before and after a table in the page.
    """
    return f"<!-- table {name} -->", f"<!-- end {name} -->"


def page_with_tables(page: str) -> str:
    """
    Return the page with every table between its markers written anew.
    """
    for name in (*SECTIONS, *(f"no-effect.{key}" for key in NO_EFFECT)):
        opening, closing = markers(name)
        before, found, rest = page.partition(opening)
        _, ended, after = rest.partition(closing)
        if found and ended:
            page = f"{before}{opening}\n{table(name)}\n{closing}{after}"
    return page


def _row(option: Option) -> tuple[str, ...]:
    default = f"`{option.shown}`" if option.shown else ""
    doc = option.doc
    if option.env:
        doc += f"; `BAOHA_{option.env}`"
    return f"`{option.key}`", option.kind.name, default, doc


def _lines(rows: list[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        file = Path(name)
        file.write_text(page_with_tables(file.read_text("utf-8")), "utf-8")
