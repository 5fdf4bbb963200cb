"""
Query strings and the values in them.

Rule of this file: what Go's parser drops (a malformed escape, a semicolon) is dropped, not refused.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_plus

from baoha.errors import InvalidRequest

_BAD_ESCAPE: Final = re.compile("%(?![0-9a-fA-F]{2})")
_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})


def is_malformed(text: str) -> bool:
    """Say whether a text has a percent sign that begins no escape."""
    return _BAD_ESCAPE.search(text) is not None


def parse_query(query: str) -> dict[str, list[str]]:
    """Return the parameters of a query or form, each with all its values."""
    found: dict[str, list[str]] = {}
    for pair in query.split("&"):
        if not pair or ";" in pair or is_malformed(pair):
            continue
        name, _, value = pair.partition("=")
        found.setdefault(unquote_plus(name), []).append(unquote_plus(value))
    return found


def joined_values(query: str) -> dict[str, str]:
    """Return the parameters of a query or form; the values of a repeated one joined by ","."""
    return {name: ",".join(values) for name, values in parse_query(query).items()}


def wanted_listing(query: str) -> str:
    """
    Return which listing a query asks a GET for: "list", "scan", or "" for none.

    Of several values the first counts; an empty one asks for nothing. Source: measured

    Raises:
        InvalidRequest: a value is no truth value, or both are asked for.
    """
    if "list" not in query and "scan" not in query:
        return ""
    parameters = parse_query(query)
    wanted = [
        name
        for name in ("list", "scan")
        if (text := parameters.get(name, [""])[0]) and parse_bool(text)
    ]
    if len(wanted) > 1:
        raise InvalidRequest
    return wanted[0] if wanted else ""


def parse_bool(text: str) -> bool:
    """
    Return the truth value that a text spells.

    Raises:
        InvalidRequest: it spells none; without a text, as in OpenBao.
    """
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise InvalidRequest
