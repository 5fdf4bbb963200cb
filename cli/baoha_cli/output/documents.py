"""
Output: documents in every format, stdout for data, stderr for the rest.

Rules of this file. Data goes to stdout in one write per document and nothing else ever does; every
other word goes to stderr, where the client token is blanked out if a server echoes it. A format
never changes because of a pipe. Colour is an addition on a terminal, never the only sign.

Theory of operation. A command builds one Document: the data, and how it looks as a table, as
tab-separated lines, as names. Output chooses by `--output`.

Source: docs/spec/cluster-cli.md section 2.3.
"""

from __future__ import annotations

import enum
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TextIO

from baoha_cli.exits import Verdict
from baoha_cli.failures import CommandFailed, UsageFailed
from baoha_cli.output import gotext
from baoha_cli.text import printable

_STYLES: Final = {"ok": "32", "warn": "33", "fail": "31", "dim": "2", "bold": "1"}
_YAML_CHUNK: Final = 1 << 16


class Format(enum.StrEnum):
    """How a document is printed."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NDJSON = "ndjson"
    TSV = "tsv"
    NAME = "name"


@dataclass(frozen=True)
class Document:
    """
    What a command has to say.

    Args:
        data: for json, yaml and ``field=``; plain dicts, lists, strings, numbers.
        table: text for table and wide (called with wide=True or False); no trailing newline.
        rows: header and rows for tsv; None derives key and value lines from ``data``.
        names: lines for name; None means the command has none.
        fields: what ``-field`` looks in; None means ``data``.
        where: the word for that in the error text ("map", "seal status").
        records: what ndjson prints one per line; None means ``data`` as one record.
    """

    data: object
    table: Callable[[bool], str]
    rows: Sequence[Sequence[str]] | None = None
    names: Sequence[str] | None = None
    fields: Mapping[str, object] | None = None
    where: str = "map"
    records: Sequence[object] | None = None


def parse_format(text: str) -> tuple[Format, str | None]:
    """
    Read the value of ``--output``: a format, or ``field=PATH``.

    Raises:
        UsageFailed: no such format.
    """
    if text.startswith("field="):
        return Format.TABLE, text.removeprefix("field=")
    try:
        return Format(text.strip().lower()), None
    except ValueError:
        names = ", ".join(Format)
        raise UsageFailed(
            f"Invalid output format: {text[:40]!a}"[:80], hint=f"one of {names}, field=PATH"
        ) from None


class Output:
    """
    Print documents and notes.

    Args:
        stdout: where data goes; None when the process has none.
        stderr: where the rest goes; None is silence.
        chosen: the format.
        field: path of the only value wanted, from ``field=PATH``.
        bao_field: the same from ``-field``; "Field ... not present" is its error.
        color: "auto", "always" or "never".
        environ: for NO_COLOR and its relatives.
        quiet: print no data and no notes; errors stay.
    """

    def __init__(
        self,
        *,
        stdout: TextIO | None,
        stderr: TextIO | None,
        chosen: Format = Format.TABLE,
        field: str | None = None,
        bao_field: str | None = None,
        color: str = "auto",
        environ: Mapping[str, str] | None = None,
        quiet: bool = False,
    ) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self.chosen = chosen
        self._field = field
        self._bao_field = bao_field
        self._quiet = quiet
        self._secrets: set[str] = set()
        self.color = _wants_color(color, environ or {}, stdout)

    @property
    def is_terminal(self) -> bool:
        """Whether stdout is a terminal."""
        return _is_terminal(self._stdout)

    @property
    def is_plain(self) -> bool:
        """Whether a person reads this: a table, not a document."""
        return self.chosen in (Format.TABLE, Format.WIDE) and not self.wants_field

    @property
    def wants_field(self) -> bool:
        """Whether only one value is wanted."""
        return self._field is not None or self._bao_field is not None

    def hide(self, secret: str) -> None:
        """Blank this text out of everything that goes to stderr."""
        if len(secret) >= 4:
            self._secrets.add(secret)

    def paint(self, text: str, style: str) -> str:
        """Return text in a style ("ok", "warn", "fail", "dim", "bold") where colour is on."""
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self.color else text

    def emit(self, document: Document) -> None:
        """
        Print a document on stdout.

        Raises:
            CommandFailed: the field asked for is not there.
            UsageFailed: the command has no output of that kind.
            OSError: stdout cannot take it (full, closed).
        """
        if self._quiet:
            return
        text = self.render(document)
        if self.is_terminal and not self.is_plain:
            # Tables are made printable cell by cell; here whole values of a server go out.
            text = printable(text, chars_max=len(text))
        self.write(text)

    def render(self, document: Document) -> str:
        """
        Return the text of a document in the chosen format, newline included.

        Raises:
            CommandFailed, UsageFailed: as for emit.
        """
        if self._bao_field is not None:
            return self._render_bao_field(document, self._bao_field)
        if self._field is not None:
            found = _walk(document.data, self._field)
            return _scalar(found) + "\n"
        match self.chosen:
            case Format.JSON:
                return gotext.pretty_json(document.data) + "\n"
            case Format.NDJSON:
                records = document.records if document.records is not None else [document.data]
                return "".join(json.dumps(record) + "\n" for record in records)
            case Format.YAML:
                return to_yaml(document.data)
            case Format.TSV:
                return _tsv(document)
            case Format.NAME:
                if document.names is None:
                    raise UsageFailed("this command has no names to print: use another --output")
                return "".join(f"{name}\n" for name in document.names)
            case Format.TABLE | Format.WIDE:
                text = document.table(self.chosen is Format.WIDE)
                return f"{text}\n" if text else ""

    def _render_bao_field(self, document: Document, name: str) -> str:
        fields = document.fields
        if fields is None:
            fields = document.data if isinstance(document.data, dict) else {}
        if name not in fields:
            raise CommandFailed(
                f'Field "{name}" not present in {document.where}', verdict=Verdict.LOCAL
            )
        value = fields[name]
        newline = "\n" if self.is_terminal else ""
        if self.chosen is Format.JSON:
            return gotext.pretty_json(value) + newline
        if self.chosen is Format.YAML:
            return to_yaml(value)
        return gotext.value_text(value) + newline

    def say(self, text: str) -> None:
        """Print a line that is the command's result for people (bao's "Success! ...")."""
        if not self._quiet:
            self.write(text + "\n")

    def note(self, text: str) -> None:
        """Print progress or a warning on stderr, unless quiet."""
        if not self._quiet:
            self.error(text)

    def error(self, text: str) -> None:
        """Print an error on stderr, always; a stderr that cannot take it is no reason to fail."""
        for secret in self._secrets:
            text = text.replace(secret, "<token>")
        if self._stderr is None:
            return
        try:
            _write(self._stderr, printable(text, chars_max=len(text)) + "\n")
        except OSError:
            self._stderr = None

    def write(self, text: str) -> None:
        """
        Write to stdout and flush, so that a failure shows here and not at exit.

        Raises:
            OSError: stdout cannot take it.
        """
        if self._stdout is None:
            raise OSError(9, os.strerror(9))
        _write(self._stdout, text)


def to_yaml(value: object) -> str:
    """Return a value as YAML, keys sorted as `bao` does."""
    import yaml  # 15 ms: only for those who ask

    return str(yaml.safe_dump(value, default_flow_style=False, allow_unicode=True, sort_keys=True))


def _write(stream: TextIO, text: str) -> None:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    data = text.encode(encoding, "backslashreplace")
    buffer = getattr(stream, "buffer", None)
    if buffer is None:  # a StringIO in a test, or an IDE's console
        stream.write(data.decode(encoding))
        stream.flush()
        return
    buffer.write(data)
    buffer.flush()


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # closed
        return False


def _wants_color(choice: str, environ: Mapping[str, str], stream: TextIO | None) -> bool:
    if choice in ("always", "never"):
        return choice == "always"
    if choice != "auto":
        raise UsageFailed(f"--color: {choice[:40]!a} is not auto, always or never")
    if environ.get("NO_COLOR") or environ.get("BAOHA_CLI_NO_COLOR"):
        return False
    if environ.get("BAO_CLI_NO_COLOR") or environ.get("VAULT_CLI_NO_COLOR"):
        return False
    if environ.get("FORCE_COLOR"):
        return True
    return _is_terminal(stream) and environ.get("TERM", "") not in ("", "dumb")


def _walk(data: object, path: str) -> object:
    current = data
    for part in path.split("."):
        if isinstance(current, dict) and part in current:
            current = current[part]
        elif isinstance(current, list) and part.isascii() and part.isdecimal():
            if len(part) > 9 or int(part) >= len(current):
                raise _no_field(path)
            current = current[int(part)]
        else:
            raise _no_field(path)
    return current


def _no_field(path: str) -> CommandFailed:
    return CommandFailed(f'Field "{path[:200]}" not present in the document', verdict=Verdict.LOCAL)


def _scalar(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, (dict, list)):
        return json.dumps(value)
    return gotext.value_text(value)


def _tsv(document: Document) -> str:
    rows = document.rows
    if rows is None:
        data = document.data
        pairs = data.items() if isinstance(data, dict) else enumerate(_as_items(data))
        rows = [(str(key), _scalar(value)) for key, value in pairs]
    return "".join("\t".join(_tsv_cell(cell) for cell in row) + "\n" for row in rows)


def _as_items(data: object) -> list[object]:
    return data if isinstance(data, list) else [data]


def _tsv_cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
