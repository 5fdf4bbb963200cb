"""
One section of a file, read against its table: values, where they came from, and warnings.

Rule of this file: a key is in the table, or in ``NO_EFFECT`` (a warning), or an error that names
file, line and the nearest key there is. Nothing is ignored in silence.

Source: ours; OpenBao only warns of keys that it does not know.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from baoha.config.documents import ConfigDocument
from baoha.config.environment import lookup
from baoha.config.model import Source
from baoha.config.options import Option, values_for
from baoha.config.values import BadValue
from baoha.errors import ConfigError
from baoha.sansio.formats.hcl import Block, Item

T = TypeVar("T")


@dataclass(slots=True)
class Section:
    """
    What was found so far for one table; later files are read into the same section.

    Attributes:
        prefix: of the keys in messages and in ``sources``, such as "listener.1.".
        no_effect: keys that OpenBao knows, with the reason why they do nothing here.
        blocks: keys that are read elsewhere.
    """

    options: Mapping[str, Option]
    prefix: str = ""
    no_effect: Mapping[str, str] = field(default_factory=dict)
    blocks: Iterable[str] = ()
    values: dict[str, object] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def read(self, document: ConfigDocument, block: Block) -> None:
        """
        Read the keys of one block; a key that was read before gets the new value.

        Raises:
            ConfigError: a key is unknown, or its value is of another kind.
        """
        for item in block.items:
            if item.key in self.options:
                self._read_option(document, item, self.options[item.key])
            elif item.key in self.no_effect:
                self.warnings.append(
                    f"{document.where(item)}: {self.prefix}{item.key} has no effect: "
                    f"{self.no_effect[item.key]}"
                )
            elif item.key not in self.blocks:
                raise ConfigError(self._unknown(document, item))

    def read_environment(self, environ: Mapping[str, str]) -> None:
        """
        Let the environment replace what the files say.

        Raises:
            ConfigError: the value of a variable is of another kind.
        """
        for option in self.options.values():
            found = lookup(environ, option.env) if option.env else None
            if found is not None:
                variable, text = found
                self.override(option, text, Source(text=f"env {variable}"))

    def override(self, option: Option, text: str, source: Source) -> None:
        """
        Set a value that does not come from a file.

        Raises:
            ConfigError: it is of another kind.
        """
        try:
            value = option.kind.convert(text)
        except BadValue as exc:
            raise ConfigError(f"{source.text}: {exc}") from exc
        before = self.sources.get(self.prefix + option.key)
        differs = before is not None and self.values.get(option.key) != value
        self.values[option.key] = value
        self.sources[self.prefix + option.key] = Source(
            text=source.text, overridden=before.text if before is not None and differs else ""
        )

    def get(self, key: str) -> object:
        """
        Return the value of a key, or its default.
        """
        option = self.options[key]
        value = self.values.get(key, option.default)
        return value or option.default if option.zero_is_default else value

    def fields_of(self, record: type[Any], variant: str = "") -> dict[str, Any]:
        """
        Return what those fields of a record get that are keys of this section.

        Args:
            variant: the type of the block, for records that serve several.
        """
        return values_for(record, self.get, variant)

    def text(self, key: str) -> str:
        """
        Return the value of a key whose kind is text; "" where there is none.
        """
        return _typed(self.get(key) or "", str)

    def flag(self, key: str) -> bool:
        """
        Return the value of a key whose kind is bool.
        """
        return _typed(self.get(key), bool)

    def number(self, key: str) -> int:
        """
        Return the value of a key that counts or is a size.
        """
        return _typed(self.get(key), int)

    def seconds(self, key: str) -> float:
        """
        Return the value of a key whose kind is a duration.
        """
        return _typed(self.get(key), float)

    def texts(self, key: str) -> tuple[str, ...]:
        """
        Return the value of a key that is a list of texts.
        """
        return tuple(_typed(part, str) for part in _typed(self.get(key), tuple))

    def _read_option(self, document: ConfigDocument, item: Item, option: Option) -> None:
        where = document.where(item)
        if item.labels:
            raise ConfigError(f"{where}: {self.prefix}{item.key} takes no label")
        try:
            self.values[option.key] = option.kind.convert(item.value)
        except BadValue as exc:
            raise ConfigError(f"{where}: {self.prefix}{item.key} {exc}") from exc
        self.sources[self.prefix + option.key] = Source(text=f"file {where}")

    def _unknown(self, document: ConfigDocument, item: Item) -> str:
        known = [*self.options, *self.blocks, *self.no_effect]
        return unknown_key(document.where(item), self.prefix, item.key, known)


def unknown_key(where: str, prefix: str, key: str, known: Iterable[str]) -> str:
    """
    Return the words for a key that nobody knows, with the nearest one there is.
    """
    nearest = difflib.get_close_matches(key[:64], list(known), n=1)
    hint = f'; did you mean "{nearest[0]}"?' if nearest else ""
    return f'{where}: unknown key "{prefix}{key}"{hint}'


def _typed(value: object, expected: type[T]) -> T:
    assert isinstance(value, expected)
    return value
