"""
Where log records go: standard error or a file, as text or JSON, never in the event loop's way.

Rules of this file:

1. Writing happens in a thread of its own behind a bounded queue. A terminal that was stopped or a
   full pipe costs log lines (counted, and reported when it moves again), never a tenure.
2. One record is one entry: control characters are escaped and further lines are indented, so that
   nothing a client sent can look like a line of its own.
3. Of an error that comes with a record its type and place are written, not its text.
4. Opening the file again is the thread's work, too: whoever asks for it runs the event loop, and a
   file may be slow to open.

Theory of operation. The format is OpenBao's: ``2026-11-23T12:00:00.000Z [INFO]  core: vault is
unsealed``. Loggers are called ``baoha.<part>``; what is shown is ``<part>``.

Source: OpenBao 2.7.2 (recorded); JSON keys of its logger.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import stat
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, TextIO

from baoha.errors import ConfigError, type_and_place

LogFormat = Literal["standard", "json"]

TRACE = 5
LEVELS = {
    "trace": TRACE,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "notice": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "err": logging.ERROR,
    "error": logging.ERROR,
}
_SHOWN = {TRACE: "TRACE", logging.WARNING: "WARN", logging.CRITICAL: "ERROR"}

QUEUE_RECORDS_MAX = 10_000
# How long the end of the process may wait for the last lines to be written.
FLUSH_S = 2.0

# C0 and C1 control characters except the line feed, which is indented.
_CONTROL = {
    code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F, *range(0x80, 0xA0)) if code != 0x0A
} | {0x09: "\t"}


def parse_level(name: str) -> int:
    """
    Return the number of a level.

    Raises:
        ConfigError: there is no such level.
    """
    try:
        return LEVELS[name.strip().lower() or "info"]
    except KeyError as error:
        raise ConfigError(f"unknown log level: {name}") from error


class StandardFormatter(logging.Formatter):
    """Text for people."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one entry; further lines of it are indented."""
        level = f"[{_level(record)}]"
        message = _message(record).translate(_CONTROL).replace("\n", "\n    ")
        return f"{_time(record)} {level:<7} {_part(record)}: {message}"


class JSONFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one entry."""
        return json.dumps(
            {
                "@level": _level(record).lower(),
                "@message": _message(record),
                "@module": _part(record),
                "@timestamp": _time(record),
            }
        )


class Logs:
    """The logging of one process: opened at start, closed at its very end."""

    def __init__(
        self, *, level: str, format: LogFormat, file: str = "", output: TextIO | None = None
    ) -> None:
        """
        Send all records to ``file``, or else to ``output`` (standard error).

        Raises:
            ConfigError: unknown level, or the file cannot be opened.

        Owns: the root logger's handlers, the file, a thread. ``close`` ends them.
        """
        number = parse_level(level)
        # A process that was started with standard error closed has none.
        self._file = file or ("" if output or sys.stderr else os.devnull)
        self._formatter = JSONFormatter() if format == "json" else StandardFormatter()
        self._stream = _open(self._file) if self._file else output or sys.stderr
        self._must_reopen = threading.Event()
        self._queue: queue.Queue[logging.LogRecord | None] = queue.Queue(QUEUE_RECORDS_MAX)
        self._handler = _QueueingHandler(self._queue)
        self._thread = threading.Thread(target=self._write_records, name="logs", daemon=True)
        root = logging.getLogger()
        self._previous = (root.handlers[:], root.level)
        root.handlers[:] = [self._handler]
        self.set_level(number)
        logging.captureWarnings(True)
        self._thread.start()

    def set_level(self, number: int) -> None:
        """Change the level of our own loggers; those of libraries never show debug records."""
        logging.getLogger("baoha").setLevel(number)
        logging.getLogger().setLevel(max(number, logging.INFO))

    def reopen(self) -> None:
        """
        Have the file opened again, after somebody has rotated it; the old one stays if that fails.

        Returns at once. The log says what was wrong.
        """
        if not self._file:
            return
        self._must_reopen.set()
        try:
            self._queue.put_nowait(_wake_up())
        except queue.Full:
            return  # there is work enough: the thread looks before each line

    def close(self) -> None:
        """Write what is queued, for FLUSH_S at most, and leave logging as it was."""
        root = logging.getLogger()
        root.handlers[:] = self._previous[0]
        root.setLevel(self._previous[1])
        logging.captureWarnings(False)
        try:
            self._queue.put(None, timeout=FLUSH_S)
        except queue.Full:
            return
        self._thread.join(FLUSH_S)
        if self._file and not self._thread.is_alive():
            self._stream.close()

    def _write_records(self) -> None:
        while (record := self._queue.get()) is not None:
            if self._must_reopen.is_set():
                self._reopen()
            if record.msg:
                self._write(self._formatter.format(record))
            if dropped := self._handler.take_dropped():
                self._say(
                    logging.WARNING,
                    "log lines were lost, the output was too slow: count=%d",
                    dropped,
                )

    def _reopen(self) -> None:
        self._must_reopen.clear()
        try:
            fresh = _open(self._file)
        except ConfigError as error:
            self._say(logging.ERROR, "log file not reopened: error=%s", str(error))
            return
        old, self._stream = self._stream, fresh
        try:
            old.close()
        except OSError:
            return  # what a full disk did not take is lost

    def _say(self, level: int, message: str, *arguments: object) -> None:
        self._write(
            self._formatter.format(
                logging.LogRecord("baoha.server.logs", level, __file__, 0, message, arguments, None)
            )
        )

    def _write(self, line: str) -> None:
        try:
            self._stream.write(line + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            return  # a full disk or a closed pipe: there is nowhere left to say so


class _QueueingHandler(logging.Handler):
    def __init__(self, records: queue.Queue[logging.LogRecord | None]) -> None:
        super().__init__()
        self._records = records
        self._dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record, or count it as lost."""
        # The arguments may change after this call, so the text is made now.
        record.msg, record.args = record.getMessage(), None
        try:
            self._records.put_nowait(record)
        except queue.Full:
            self._dropped += 1

    def take_dropped(self) -> int:
        """Return how many records were lost since the last call."""
        dropped, self._dropped = self._dropped, 0
        return dropped


def _wake_up() -> logging.LogRecord:
    """Return a record without a message: it is not written."""
    return logging.LogRecord("baoha.server.logs", logging.INFO, __file__, 0, "", (), None)


def _open(file: str) -> TextIO:
    try:
        # To open a FIFO for writing waits for a reader, who may never come: with both ends of it
        # nobody waits, and readers may come and go.
        access = os.O_RDWR if _is_fifo(file) else os.O_WRONLY
        descriptor = os.open(Path(file), access | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigError(f'cannot open log file "{file}": {error.strerror}') from error
    return os.fdopen(descriptor, "a", encoding="utf-8", errors="backslashreplace")


def _is_fifo(file: str) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(file).st_mode)
    except OSError:
        return False


def _level(record: logging.LogRecord) -> str:
    return _SHOWN.get(record.levelno, record.levelname)


def _part(record: logging.LogRecord) -> str:
    return record.name.removeprefix("baoha.")


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(record: logging.LogRecord) -> str:
    message = record.getMessage()
    if record.exc_info:
        # Of a library, then: ours say what may be said.
        error = record.exc_info[1]
        message += f": error={type_and_place(error)}" if error is not None else ""
    return message
