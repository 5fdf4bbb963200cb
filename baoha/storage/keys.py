"""
Rules for keys and prefixes, and the one way to list the children of a folder.

Rule of this file: it is pure. A store hands in "the keys from here on, in order"; the children of
a folder come out, so that every store that keeps its keys sorted lists alike.

Theory of operation. Keys are compared by code point (the same order as their UTF-8 bytes). In that
order the keys below one sub-folder are neighbours, and children sort as their keys do, because a
child is its key cut after the first "/". So one walk over the sorted keys yields sorted children,
and a sub-folder of any size costs one step: the walk continues at the first key behind it.

Source: docs/spec/openbao-ha.md section 7.1; the walk is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from baoha.errors import StorageError

# The character after "/": the first key behind folder "a/" is not below "a0".
_AFTER_SLASH = chr(ord("/") + 1)

Seek = Callable[[str, str], Iterable[str]]
"""Return the keys that start with a prefix (2nd) and are not below a bound (1st), sorted."""


def check_key(key: str) -> None:
    """
    Refuse what is not a key.

    Raises:
        StorageError: the key is empty, has an empty first or last part, or is not valid Unicode.
    """
    if not key or key[0] == "/" or key[-1] == "/":
        raise StorageError("cannot use a storage key that is empty or starts or ends with '/'")
    if not key.isascii():
        _check_text(key)


def check_prefix(prefix: str) -> None:
    """
    Refuse what is not a prefix.

    Raises:
        StorageError: the prefix is neither "" nor ends in "/", starts with "/", or is not valid
            Unicode.
    """
    if prefix and (prefix[-1] != "/" or prefix[0] == "/"):
        raise StorageError("cannot list a storage prefix that does not end in '/'")
    _check_text(prefix)


def children(seek: Seek, prefix: str, *, after: str = "", limit: int = -1) -> list[str]:
    """
    Return the direct children of a prefix, sorted; sub-folders once, with a trailing "/".

    Args:
        seek: the store's sorted keys; abandoned early whenever a sub-folder is skipped.
        prefix: "" or ending in "/".
        after: only children that sort strictly after this one.
        limit: at most so many; negative: all.
    """
    found: list[str] = []
    bound: str | None = prefix + after
    while bound is not None and len(found) != limit:
        bound = _walk(seek(bound, prefix), prefix, after, limit, found)
    return found


def _walk(keys: Iterable[str], prefix: str, after: str, limit: int, found: list[str]) -> str | None:
    """Collect until the limit or the end (None), or until a folder: return the bound behind it."""
    skip = len(prefix)
    for key in keys:
        slash = key.find("/", skip)
        child = key[skip:] if slash < 0 else key[skip : slash + 1]
        if child > after:
            found.append(child)
            if len(found) == limit:
                return None
        if slash >= 0:
            return key[:slash] + _AFTER_SLASH
    return None


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise StorageError("key contains invalid UTF-8 characters") from exc
