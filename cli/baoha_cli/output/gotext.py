"""
Values and tables in the form that `bao` prints them.

Rule of this file: it is pure, and its output is compared with a real `bao` byte for byte
(tests/differential/test_cli_against_bao.py): people's scripts cut columns out of it.

Source: `bao` 2.7.2 run beside this.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

Paint = Callable[[str], str]
"""Adds colour to one padded cell; identity when colour is off."""


def value_text(value: object) -> str:
    """Return a JSON value as `bao` shows it in a table: ``<nil>``, ``map[a:1]``, ``[x y]``."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        pairs = " ".join(f"{key}:{value_text(value[key])}" for key in sorted(value))
        return f"map[{pairs}]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(value_text(item) for item in value) + "]"
    return json.dumps(value)


def cell_text(value: object) -> str:
    """Return a value for a table cell; an empty string reads "n/a" there."""
    return value_text(value) or "n/a"


def dashed_table(rows: Sequence[Sequence[str]], *, gap: int = 4, paint: Paint | None = None) -> str:
    """Lay out rows, the first being the header, with a line of dashes under it."""
    if not rows:
        return ""
    dashes = ["-" * len(name) for name in rows[0]]
    return plain_table([rows[0], dashes, *rows[1:]], gap=gap, paint=paint)


def plain_table(rows: Sequence[Sequence[str]], *, gap: int = 4, paint: Paint | None = None) -> str:
    """Lay out rows in columns, without a trailing newline; the last column is not padded."""
    columns = max((len(row) for row in rows), default=0)
    widths = [
        max((len(row[index]) for row in rows if index < len(row)), default=0)
        for index in range(columns)
    ]
    lines = []
    for row in rows:
        cells = []
        for index, cell in enumerate(row):
            padding = "" if index == len(row) - 1 else " " * (widths[index] - len(cell) + gap)
            cells.append((paint(cell) if paint else cell) + padding)
        lines.append("".join(cells))
    return "\n".join(lines)


def key_value_table(pairs: Sequence[tuple[str, str]]) -> str:
    """Lay out "Key  Value" pairs with headers and dashes."""
    return dashed_table([("Key", "Value"), *pairs])


def mapping_table(data: Mapping[str, object]) -> str:
    """Lay out a JSON object as "Key  Value", sorted by key."""
    return key_value_table([(key, cell_text(data[key])) for key in sorted(data)])


def titled_table(title: str, data: Mapping[str, object]) -> str:
    """Lay out a JSON object under a title such as ``== Data ==``."""
    # As wide as the table's own header line: longest key, four spaces, "Value".
    width = max((len(key) for key in data), default=0) + 9
    return f"{heading(title, width)}\n{mapping_table(data)}"


def titled_line(title: str, line: str) -> str:
    """Put a title above one line of text."""
    return f"{heading(title, len(line))}\n{line}"


def heading(title: str, width: int) -> str:
    """Return a title between equals signs, about ``width`` wide, with two of them at least."""
    equals = width - len(title) - 2
    side = "=" * ((equals + 1) // 2 if equals > 0 else 2)
    return f"{side} {title} {side}"


def quoted_list(value: object) -> str:
    """Return a list as Go's %q prints it: ``["default" "x"]``; anything else is empty."""
    items = value if isinstance(value, (list, tuple)) else ()
    return "[" + " ".join(json.dumps(item, ensure_ascii=False) for item in items) + "]"


def duration_text(seconds: int) -> str:
    """Return seconds as `bao` shows a duration: 0s, 29s, 1h, 1h30m, 768h."""
    if seconds == 0:
        return "0s"
    hours, rest = divmod(abs(seconds), 3600)
    minutes, secs = divmod(rest, 60)
    parts = [(hours, "h"), (minutes, "m"), (secs, "s")]
    text = "".join(f"{number}{unit}" for number, unit in parts if number)
    return f"-{text}" if seconds < 0 else text


def pretty_json(value: object) -> str:
    """Return JSON indented by two spaces, as Go's encoder writes it."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    for char, escape in (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026")):
        text = text.replace(char, escape)
    return text
