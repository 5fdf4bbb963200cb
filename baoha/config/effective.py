"""
The configuration that is in force, line by line, for ``--print-effective-config``.

Rule of this file: a secret is shown as "***". Whether a storage setting is one is told by its
store and by its name, and every password inside a URL is masked whatever the name; what cannot be
judged (a list, an inner block) is shown only by its size.

Source: ours; docs/spec/cluster-cli.md section 3.3.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from baoha.config.model import ListenerConfig, SealSettings, ServerConfig, Source
from baoha.config.options import Option, settings_of
from baoha.config.values import FILE_MODE
from baoha.sansio.durations import SECOND_NS, format_duration_short

MASK: Final = "***"
_SECRET_NAME: Final = re.compile(
    r"pass|secret|token|credential|private|connection|conninfo|dsn|key$|_pem$",
    re.IGNORECASE,
)
_URL_USERINFO: Final = re.compile(r"://[^/@\s]*@")
_DEFAULT: Final = Source(text="default")


class Setting(NamedTuple):
    """
    One key that is in force; its value is as it is, a secret too.
    """

    key: str
    value: object
    option: Option | None = None  # None: the type of a block, or a store's own key
    is_secret: bool = False


def effective(
    config: ServerConfig, secrets_of: Callable[[str], frozenset[str]] = lambda _: frozenset()
) -> list[tuple[str, str, str]]:
    """
    Return (key, value, where it came from) for every key, secrets masked.

    Args:
        secrets_of: the settings of a store that are secrets by its own word.
    """
    rows: list[tuple[str, str, str]] = []
    for setting in settings(config, secrets_of):
        key = setting.key
        source = config.sources.get(key, _DEFAULT)
        text = source.text if not source.overridden else f"{source.text}, not {source.overridden}"
        if not setting.is_secret:
            shown = _mask_userinfo(_text(setting))
        else:
            # No default is a secret: there is one only if it was read from somewhere.
            shown = MASK if key in config.sources else ""
        rows.append((key, shown, text))
    return rows


def settings(
    config: ServerConfig, secrets_of: Callable[[str], frozenset[str]] = lambda _: frozenset()
) -> Iterator[Setting]:
    """
    Return every key that is in force, as it is: secrets too.

    Args:
        secrets_of: as for ``effective``.
    """
    yield from _settings(config)
    for block, storage in (("storage.", config.storage), ("ha_storage.", config.ha_storage)):
        if storage is not None:
            yield Setting(f"{block}type", storage.type)
            secrets = secrets_of(storage.type)
            for name, value in storage.settings.items():
                is_secret = name in secrets or _SECRET_NAME.search(name) is not None
                yield Setting(f"{block}{name}", value, is_secret=is_secret)
    blocks: list[tuple[str, ListenerConfig | SealSettings]] = [
        *((f"listener.{number}.", one) for number, one in enumerate(config.listeners, start=1)),
        ("seal.", config.seal),
    ]
    for prefix, record in blocks:
        yield Setting(f"{prefix}type", record.type)
        yield from _settings(record, record.type, prefix)


def _settings(record: object, variant: str = "", prefix: str = "") -> Iterator[Setting]:
    for option, value in settings_of(record, variant, prefix):
        yield Setting(option.key, value, option, option.secret)


def _text(setting: Setting) -> str:
    value, option = setting.value, setting.option
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if option is None:
        return f"({len(value)} entries)" if isinstance(value, (list, dict)) else str(value)
    if option.kind is FILE_MODE:
        return f"{value:04o}"
    if isinstance(value, float):
        return format_duration_short(round(value * SECOND_NS))
    if isinstance(value, tuple):
        return ", ".join(str(part) for part in value)
    if isinstance(value, Mapping):
        # Only which headers are set: their values may be confidential.
        return ", ".join(f"{status}: {' '.join(group)}" for status, group in value.items())
    return str(value)


def _mask_userinfo(text: str) -> str:
    return _URL_USERINFO.sub(f"://{MASK}@", text)
