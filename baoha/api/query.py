"""
Query strings and forms, and the values in them.

Rule of this file: what Go's parser drops from a query (a malformed escape, a semicolon) is dropped,
not refused. In a form it is refused.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from typing import Final
from urllib.parse import unquote_plus, unquote_to_bytes

from baoha.errors import InvalidRequest

_BAD_ESCAPE: Final = re.compile("%(?![0-9a-fA-F]{2})")
_BAD_ESCAPE_BYTES: Final = re.compile(b"%(?![0-9a-fA-F]{2})")
_PIECE_BYTES: Final = 32 * 1024
# Source: Go reads 10 MiB of a form. The number is ours: each field costs microseconds and memory.
_FORM_BYTES_MAX: Final = 10 * 1024 * 1024
_FORM_FIELDS_MAX: Final = 10_000
_LISTING_CHARS_MAX: Final = 12  # "list" or "scan", each character an escape
_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})


def is_malformed(text: str) -> bool:
    """Return whether a text has a percent sign that begins no escape."""
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


def parse_form(body: bytes, pause: Callable[[], None]) -> dict[str, str]:
    """
    Return the fields of a form; the values of a repeated one joined by ",".

    Args:
        pause: called between pieces of the work; what it raises ends it.

    Raises:
        InvalidRequest: the form is malformed, or larger than any use.
    """
    if len(body) > _FORM_BYTES_MAX or body.count(b"&") >= _FORM_FIELDS_MAX or b";" in body:
        raise InvalidRequest("error parsing form data")
    found: dict[str, list[str]] = {}
    for pair in body.split(b"&"):
        if pair:
            name, _, value = pair.partition(b"=")
            found.setdefault(_unquoted(name, pause), []).append(_unquoted(value, pause))
    return {name: ",".join(values) for name, values in found.items()}


def _unquoted(data: bytes, pause: Callable[[], None]) -> str:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    parts: list[str] = []
    at = 0
    while at < len(data):
        end = at + _PIECE_BYTES
        if end < len(data):
            # Not in the middle of an escape.
            end -= next((back for back in (1, 2) if data[end - back] == ord("%")), 0)
        piece = data[at:end]
        if _BAD_ESCAPE_BYTES.search(piece):
            raise InvalidRequest("error parsing form data")
        parts.append(decoder.decode(unquote_to_bytes(piece.replace(b"+", b" ")), end >= len(data)))
        at = end
        pause()
    return "".join(parts)


def wanted_listing(query: str) -> str:
    """
    Return which listing a query asks a GET for: "list", "scan", or "" for none.

    Of several values the first counts; an empty one asks for nothing. Source: measured

    Raises:
        InvalidRequest: a value is no truth value, or both are asked for.
    """
    if "list" not in query and "scan" not in query:
        return ""
    # Not all of it: a query may have many escapes, and is decoded where it is executed.
    pairs = (pair for pair in query.split("&") if len(pair.partition("=")[0]) <= _LISTING_CHARS_MAX)
    parameters = parse_query("&".join(pairs))
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
