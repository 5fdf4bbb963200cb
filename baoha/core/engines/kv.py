"""
The key-value engine as rows: its names, its versions, and what a change of the version means.

Rules of this file:

1. "generic" is the old name of the engine without versions; neither it nor "kv" goes back to an
   older version.
2. A mount that gets versions gets a new folder; ``kv2/upgrade.py`` moves its secrets there.

Source: OpenBao 2.7.2 as recorded (tests/conformance/recordings/mounts-auth-audit.json) and
measured.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from baoha.core.engines.kv1 import PlainKVEngine
from baoha.core.engines.kv2.engine import UPGRADING, KVEngine
from baoha.core.engines.kv2.upgrade import KVUpgrades
from baoha.core.framework.engine import Engine, EngineContext
from baoha.core.framework.engine_type import EngineType, Options
from baoha.core.framework.mount_entry import MountEntry, Table
from baoha.core.services import Services
from baoha.errors import InvalidRequest

_NAMES: Final = ("kv", "generic")
_VERSIONS: Final = frozenset({1, 2})
_INTEGER: Final = re.compile("[+-]?[0-9]+")
_INT_MAX: Final = 2**63 - 1


def kv_types(services: Services) -> Sequence[EngineType]:
    """Return the rows."""
    upgrades = KVUpgrades(services.barrier, services.mounts, _NAMES)
    return (
        EngineType(
            name="kv",
            table=Table.SECRET,
            summary="Secrets at paths; with version=2, their former versions, too.",
            make=_make,
            aliases={"kv-v1": {"version": "1"}, "kv-v2": {"version": "2"}},
            check_options=_check_version,
            merge_options=merge_versions,
            moves_data=_gets_versions,
            moving=UPGRADING,
            warn_options=upgrade_warnings,
            background=upgrades.run,
        ),
        EngineType(
            name="generic",
            table=Table.SECRET,
            summary="The old name of kv without versions.",
            make=_make,
            check_options=_refuse_version,
            merge_options=merge_versions,
            moves_data=_gets_versions,
            moving=UPGRADING,
            warn_options=upgrade_warnings,
            # It was there before plug-ins had a status.
            shows_status=False,
        ),
    )


def _make(entry: MountEntry, context: EngineContext) -> Engine:
    if _has_versions(entry.options or {}):
        return KVEngine(context, is_upgrading=bool(entry.upgrade_from))
    return PlainKVEngine(context)


def _has_versions(options: Options) -> bool:
    return options.get("version") == "2"


def _gets_versions(before: Options, after: Options) -> bool:
    return _has_versions(after) and not _has_versions(before)


def _check_version(options: Options) -> None:
    if options.get("version", "") not in ("", "1", "2"):
        raise InvalidRequest('nil backend of type "kv" returned from factory')


def _refuse_version(options: Options) -> None:
    if options.get("version", ""):
        raise InvalidRequest('secrets engine "generic" does not allow setting a version')


def merge_versions(stored: Options, asked: Options) -> Options:
    """
    Return the options of a mount after a tuning; an empty value removes an option.

    Raises:
        InvalidRequest: no such version, or an older one.
    """
    options = dict(stored)
    for name, value in asked.items():
        if name == "version":
            options[name] = str(_tuned_version(options.get(name, ""), value))
        elif value:
            options[name] = value
        else:
            options.pop(name, None)
    return options


def _tuned_version(old_text: str, new_text: str) -> int:
    old, new = _version(old_text), _version(new_text)
    if new not in _VERSIONS:
        raise InvalidRequest(f"invalid version provided: {new}")
    if new < old:
        raise InvalidRequest(f"cannot downgrade mount from version {old}")
    return new


def upgrade_warnings(before: Options, after: Options) -> list[str]:
    """Return the warning that a tuning has made another version of a mount; else nothing."""
    old, new = _version(before.get("version", "")), _version(after.get("version", ""))
    if old == new:
        return []
    # The second number is always 0 in OpenBao.
    return [
        f"Upgrading mount from version {old} to version 0. This mount will be "
        "unavailable for a brief period and will resume service shortly."
    ]


def _version(text: str) -> int:
    if not text:
        return 0
    problem = "invalid syntax"
    if _INTEGER.fullmatch(text):
        if abs(int(text)) <= _INT_MAX:
            return int(text)
        problem = "value out of range"
    raise InvalidRequest(f'unable to parse options: strconv.ParseInt: parsing "{text}": {problem}')
