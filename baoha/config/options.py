"""
A key of the configuration is a field of a record: what the loader, the pages and SIGHUP know of it.

Rules of this file: whoever needs the keys of a section walks the fields of its record, here; nobody
lists them a second time. The key is the name of the field without its unit ("_s").

Theory of operation. ``option`` makes a dataclass field that carries an ``Option``; ``group`` makes
one whose value is another record, whose keys begin with a prefix. A field that has neither is no
key: it is derived. A field with a "doc" in its metadata and no ``Option`` is a duration (records
below ``config`` cannot import this module).

Source: ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Final, TypeVar

from baoha.config.values import DURATION, OptionKind

T = TypeVar("T")

_KEY: Final = "option"
_UNIT: Final = "_s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """
    One key of one section.

    Attributes:
        key: as it is written in a file.
        default: what the loader uses where the key is not set.
        shown: the default as the documentation shows it.
        env: the part of the environment variables' names behind BAOHA_, BAO_ and VAULT_.
        secret: the value is never shown.
        only: the one type of block that has the key; "" is every type.
        zero_is_default: 0 asks for the default, as in OpenBao.
    """

    key: str = ""
    kind: OptionKind
    default: object
    shown: str
    doc: str
    env: str = ""
    secret: bool = False
    only: str = ""
    zero_is_default: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """
    Keys with one prefix that are a record of their own.

    Attributes:
        only: as for an ``Option``.
        unless: a key that switches the group off; then the record is None.
    """

    record: type[Any]
    prefix: str
    only: str = ""
    unless: Option | None = None


def option(
    kind: OptionKind,
    default: T,
    doc: str,
    *,
    key: str = "",
    shown: str = "",
    env: str = "",
    secret: bool = False,
    only: str = "",
    zero_is_default: bool = False,
) -> T:
    """
    Return a dataclass field that is a key; see ``Option``.

    Args:
        key: where it is not the name of the field without its unit.
        shown: where it is not the default as it is.
    """
    made = Option(
        key=key,
        kind=kind,
        default=default,
        shown=shown or _shown(default),
        doc=doc,
        env=env,
        secret=secret,
        only=only,
        zero_is_default=zero_is_default,
    )
    # The factory: dataclasses take no mapping for a default.
    return field(default_factory=lambda: default, repr=not secret, metadata={_KEY: made})


def group(record: type[Any], prefix: str, *, only: str = "", unless: Option | None = None) -> Any:
    """
    Return a dataclass field whose value is a record of keys with a prefix; see ``Group``.
    """
    made = Group(record=record, prefix=prefix, only=only, unless=unless)
    if unless is not None:
        return field(default=None, metadata={_KEY: made})
    return field(default_factory=record, metadata={_KEY: made})


def switch(kind: OptionKind, default: object, doc: str, *, key: str) -> Option:
    """
    Return the key that switches a group off.
    """
    return Option(key=key, kind=kind, default=default, shown=_shown(default), doc=doc)


def options_of(record: type[Any], variant: str = "", prefix: str = "") -> Mapping[str, Option]:
    """
    Return every key of a record, and of the groups in it, in the order of the fields.

    Args:
        variant: the type of the block, for records that serve several.
        prefix: what the keys begin with.
    """
    found: dict[str, Option] = {}
    for _, entry in _entries(record, variant):
        if isinstance(entry, Group):
            if entry.unless is not None:
                found[prefix + entry.unless.key] = replace(
                    entry.unless, key=prefix + entry.unless.key
                )
            found |= options_of(entry.record, variant, prefix + entry.prefix)
        else:
            found[prefix + entry.key] = replace(entry, key=prefix + entry.key)
    return MappingProxyType(found)


def values_for(
    record: type[Any], get: Callable[[str], object], variant: str = "", prefix: str = ""
) -> dict[str, Any]:
    """
    Return what the fields of a record get that are keys, or groups of them.

    Args:
        get: the value of a key.
    """
    values: dict[str, Any] = {}
    for name, entry in _entries(record, variant):
        if isinstance(entry, Option):
            values[name] = get(prefix + entry.key)
        elif entry.unless is None or not get(prefix + entry.unless.key):
            inner = values_for(entry.record, get, variant, prefix + entry.prefix)
            values[name] = entry.record(**inner)
    return values


def settings_of(
    record: object, variant: str = "", prefix: str = ""
) -> Iterator[tuple[Option, object]]:
    """
    Return every key of a record that is in force, with its value.

    The keys of a group that is switched off are left out.
    """
    for name, entry in _entries(type(record), variant):
        value = getattr(record, name)
        if isinstance(entry, Option):
            yield replace(entry, key=prefix + entry.key), value
            continue
        if entry.unless is not None:
            yield replace(entry.unless, key=prefix + entry.unless.key), value is None
        if value is not None:
            yield from settings_of(value, variant, prefix + entry.prefix)


def _entries(record: type[Any], variant: str) -> tuple[tuple[str, Option | Group], ...]:
    found = ((one.name, _entry(one)) for one in fields(record))
    return tuple(
        (name, entry) for name, entry in found if entry is not None and entry.only in ("", variant)
    )


def _entry(one: Field[Any]) -> Option | Group | None:
    entry = one.metadata.get(_KEY)
    if isinstance(entry, Group):
        return entry
    key = one.name.removesuffix(_UNIT)
    if isinstance(entry, Option):
        return entry if entry.key else replace(entry, key=key)
    doc = one.metadata.get("doc")
    if not isinstance(doc, str):
        return None
    return Option(key=key, kind=DURATION, default=one.default, shown=f"{one.default:g}s", doc=doc)


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, tuple):
        return "[]"
    return "" if default is None else str(default)
