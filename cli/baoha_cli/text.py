"""
Text from strangers, made fit to print.

Rule of this file: what a server sent never reaches a terminal as control characters (an escape
sequence could repaint the screen), and one answer cannot fill the screen either.
"""

from __future__ import annotations

from typing import Final

_KEEP: Final = "\n\t"
SHOWN_CHARS_MAX: Final = 4096


def printable(text: str, *, chars_max: int = SHOWN_CHARS_MAX, keep: str = _KEEP) -> str:
    r"""Return text with control characters as ``\x1b`` and cut after ``chars_max`` characters."""
    cut = text[:chars_max]
    shown = "".join(_char(char, keep) for char in cut)
    return shown if len(text) <= chars_max else f"{shown}… ({len(text) - chars_max} more)"


def one_line(text: str, *, chars_max: int = 200) -> str:
    """Return text on one line, for a table cell."""
    return printable(" ".join(text.split()), chars_max=chars_max, keep="")


def wire_bytes(text: str) -> bytes:
    """Return text for a URL: bytes of the command line that are no UTF-8 go out as they came."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a character, from a server's JSON
        return text.encode("utf-8", "replace")


def _char(char: str, keep: str) -> str:
    code = ord(char)
    if char in keep:
        return char
    if code < 32 or 127 <= code < 160:
        return f"\\x{code:02x}"
    # Surrogates cannot be encoded; the bidirectional controls reorder what the reader sees.
    if 0xD800 <= code <= 0xDFFF or 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069:
        return f"\\u{code:04x}"
    return char
