"""
Configuration files, read into one tree whatever they are written in: TOML, HCL or JSON.

Rules of this file: the only importer of tomli; every error says file, line and column where they
are known, and never shows a value (it may be a secret).

A TOML table becomes a folded ``Block``, like a JSON object: ``[storage.sqlite]`` is what HCL writes
as ``storage "sqlite" { }``. tomli tells no positions, so the lines of keys are found by a scan that
is good enough for messages and used for nothing else.

Source: ours; file names and their order as OpenBao has them, ``*.toml`` beside.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

import tomli

from baoha.errors import ConfigError
from baoha.sansio.formats import hcl
from baoha.sansio.formats.hcl import Block, HCLError, Item, Value

SUFFIXES: Final = (".toml", ".hcl", ".json")
FILE_BYTES_MAX: Final = 1 << 20
DEPTH_MAX: Final = hcl.DEPTH_MAX

_BARE: Final = r"""(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')"""
# No more parts than may be nested: the lines of longer ones are not looked for.
_DOTTED: Final = rf"{_BARE}(?:[ \t]*+\.[ \t]*+{_BARE}){{0,{DEPTH_MAX}}}+"
_HEADER: Final = re.compile(rf"[ \t]*+(\[\[?+)[ \t]*+({_DOTTED})[ \t]*+\]")
_KEY: Final = re.compile(rf"[ \t]*+({_DOTTED})[ \t]*+=")
_PART: Final = re.compile(_BARE)

_Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class ConfigDocument:
    """
    One file: its name for messages, and its tree.
    """

    name: str
    block: Block

    def where(self, item: Item) -> str:
        """
        Return "file:line", or "file" where the line is not known.
        """
        return f"{self.name}:{item.line}" if item.line else self.name

    def fail(self, error: HCLError) -> NoReturn:
        """
        Raise what was wrong with the tree as a configuration error.

        Raises:
            ConfigError: always.
        """
        position = f":{error.line}" if error.line else ""
        raise ConfigError(f"{self.name}{position}: {error.message}") from error


def read_documents(paths: Sequence[Path]) -> list[ConfigDocument]:
    """
    Read files, and the configuration files of directories in the order of their names.

    Raises:
        ConfigError: something is missing, unreadable, too large or malformed; or there is no file.
    """
    documents: list[ConfigDocument] = []
    for path in paths:
        try:
            files = _files_of(path) if path.is_dir() else [path]
        except OSError as exc:
            raise ConfigError(f"cannot read configuration {path}: {exc.strerror}") from exc
        if not files:
            suffixes = ", ".join(f"*{suffix}" for suffix in SUFFIXES)
            raise ConfigError(f"no configuration file ({suffixes}) in directory {path}")
        documents += [_read(file) for file in files]
    return documents


def parse_document(source: str | bytes, name: str) -> ConfigDocument:
    """
    Parse the text of one file; its name tells the language: ``*.toml``, else HCL or JSON.

    Raises:
        ConfigError: the text is too large or malformed.
    """
    if len(source) > FILE_BYTES_MAX:
        raise ConfigError(f"{name}: file is larger than {FILE_BYTES_MAX} bytes")
    if name.endswith(".toml"):
        return ConfigDocument(name, _parse_toml(source, name))
    try:
        return ConfigDocument(name, hcl.parse(source, size_max=FILE_BYTES_MAX))
    except HCLError as exc:
        # The word at fault may be a secret without its quotes.
        message = exc.message if "Unknown token" not in exc.message else "value is not quoted"
        raise ConfigError(f"{name}:{exc.line}:{exc.column}: {message}") from exc


def _files_of(directory: Path) -> list[Path]:
    return sorted(
        entry
        for entry in directory.iterdir()
        if entry.suffix in SUFFIXES and not entry.name.startswith(".") and entry.is_file()
    )


def _read(path: Path) -> ConfigDocument:
    try:
        with path.open("rb") as file:
            source = file.read(FILE_BYTES_MAX + 1)
    except OSError as exc:
        raise ConfigError(f"cannot read configuration {path}: {exc.strerror}") from exc
    return parse_document(source, str(path))


def _parse_toml(source: str | bytes, name: str) -> Block:
    try:
        text = source.decode() if isinstance(source, bytes) else source
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{name}: illegal UTF-8 encoding") from exc
    try:
        tree = tomli.loads(text)
    except tomli.TOMLDecodeError as exc:
        # The message names keys and single characters at most, never a value.
        raise ConfigError(f"{name}:{exc.lineno}:{exc.colno}: {exc.msg}") from exc
    except (ValueError, RecursionError) as exc:
        # A number of thousands of digits, or brackets thousands deep.
        raise ConfigError(f"{name}: not valid TOML") from exc
    return _TOMLTree(name, _toml_lines(text)).block(tree, ())


class _TOMLTree:
    """What tomli returns, as blocks; the line of each key is looked up by its path."""

    def __init__(self, name: str, lines: Mapping[_Path, int]) -> None:
        self._name = name
        self._lines = lines

    def block(self, table: Mapping[str, object], path: _Path) -> Block:
        if len(path) > DEPTH_MAX:
            raise ConfigError(f"{self._name}: document is nested too deeply")
        items = []
        for key, value in table.items():
            line = self._line((*path, key))
            items.append(Item(key, (), self._value(value, (*path, key)), line, 1))
        return Block(tuple(items), folded=True)

    def _value(self, value: object, path: _Path) -> Value:
        if isinstance(value, Mapping):
            return self.block(value, path)
        if isinstance(value, list):
            if len(path) > DEPTH_MAX:
                raise ConfigError(f"{self._name}: document is nested too deeply")
            return [self._value(part, (*path, index)) for index, part in enumerate(value)]
        if isinstance(value, (str, int, float)):
            return value
        where = f"{self._name}:{self._line(path)}"
        raise ConfigError(f"{where}: dates and times are not values here")

    def _line(self, path: _Path) -> int:
        for length in range(len(path), 0, -1):
            line = self._lines.get(path[:length])
            if line is not None:
                return line
        return 0


def _toml_lines(text: str) -> dict[_Path, int]:
    """
    Return the line of every key and table header, by path; elements of an array by their index.
    """
    lines: dict[_Path, int] = {}
    counts: dict[_Path, int] = {}
    table: _Path = ()
    closing = ""
    for number, line in enumerate(text.split("\n"), start=1):
        if closing:
            if closing in line:
                closing = ""
            continue
        header = _HEADER.match(line)
        if header is not None:
            table = _resolve(_parts(header[2]), counts)
            if header[1] == "[[":
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            lines.setdefault(table, number)
            continue
        key = _KEY.match(line)
        if key is not None:
            lines.setdefault((*table, *_parts(key[1])), number)
            closing = _opened(line[key.end() :])
    return lines


def _parts(dotted: str) -> _Path:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))


def _resolve(path: _Path, counts: Mapping[_Path, int]) -> _Path:
    """Insert the index of the newest element behind every name of an array, but the last name."""
    resolved: _Path = ()
    for position, part in enumerate(path):
        resolved = (*resolved, part)
        if position < len(path) - 1 and resolved in counts:
            resolved = (*resolved, counts[resolved])
    return resolved


def _opened(rest: str) -> str:
    """Return the delimiter of a multi-line string that begins and does not end in ``rest``."""
    for delimiter in ('"""', "'''"):
        if rest.count(delimiter) % 2:
            return delimiter
    return ""
