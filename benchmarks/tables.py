"""
Plain text tables.

Rule of this file: columns of numbers are to the right, everything else to the left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

GAP = "  "


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return rows under heads, in columns as wide as they need to be."""
    texts = [[_text(cell) for cell in row] for row in rows]
    widths = [
        max(len(line[column]) for line in [list(heads), *texts]) for column in range(len(heads))
    ]
    right = [
        bool(rows) and all(isinstance(row[column], int | float | None) for row in rows)
        for column in range(len(heads))
    ]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(cells, widths, right, strict=True)
        )
        return GAP.join(padded).rstrip()

    rule = GAP.join("-" * width for width in widths)
    return "\n".join([line(heads), rule, *(line(cells) for cells in texts)])


def _text(cell: object) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, float) and math.isinf(cell):
        return "never"
    if isinstance(cell, float):
        digits = 0 if abs(cell) >= 100 else 1 if abs(cell) >= 10 else 2
        return f"{cell:.{digits}f}"
    return str(cell)
