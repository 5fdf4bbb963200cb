"""The log: format, levels, and that it never gets in the way."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from baoha.errors import ConfigError
from baoha.server.logs import (
    LEVELS,
    QUEUE_RECORDS_MAX,
    JSONFormatter,
    Logs,
    StandardFormatter,
    parse_level,
)


def record(message: str, *arguments: object, name: str = "baoha.core") -> logging.LogRecord:
    made = logging.LogRecord(name, logging.INFO, __file__, 1, message, arguments, None)
    made.created = 1_795_435_200.0
    return made


@pytest.fixture
def log_file(tmp_path: Path) -> Iterator[tuple[Logs, Path]]:
    path = tmp_path / "baoha.log"
    logs = Logs(level="info", format="standard", file=str(path))
    yield logs, path
    logs.close()


def test_standard_format_is_openbaos() -> None:
    text = StandardFormatter().format(record("vault is unsealed: shares=%d", 3))
    assert text == "2026-11-23T12:00:00.000Z [INFO]  core: vault is unsealed: shares=3"


@pytest.mark.parametrize(
    ("level", "shown"),
    [(logging.WARNING, "[WARN]  "), (logging.ERROR, "[ERROR] "), (logging.DEBUG, "[DEBUG] ")],
)
def test_standard_format_levels_are_aligned(level: int, shown: str) -> None:
    made = record("x")
    made.levelno, made.levelname = level, logging.getLevelName(level)
    assert shown in StandardFormatter().format(made)


def test_standard_format_message_cannot_forge_a_line() -> None:
    text = StandardFormatter().format(record("bad path: %s", "a\n2026 [INFO] forged\x1b[2J\r"))
    assert "\x1b" not in text
    assert "\r" not in text
    assert all(line.startswith("    ") for line in text.split("\n")[1:])


def test_json_format_is_one_line_with_openbaos_keys() -> None:
    text = JSONFormatter().format(record("a\nb"))
    assert "\n" not in text
    assert json.loads(text) == {
        "@level": "info",
        "@message": "a\nb",
        "@module": "core",
        "@timestamp": "2026-11-23T12:00:00.000Z",
    }


def test_level_unknown_is_an_error() -> None:
    with pytest.raises(ConfigError, match="unknown log level: loud"):
        parse_level("loud")
    assert parse_level("TRACE") == LEVELS["trace"]


def test_logs_file_gets_records_of_its_level(log_file: tuple[Logs, Path]) -> None:
    logs, path = log_file
    logger = logging.getLogger("baoha.test")
    logger.debug("hidden")
    logger.info("shown: %s", "value")
    logs.set_level(logging.DEBUG)
    logger.debug("now shown")
    logs.close()
    lines = path.read_text().splitlines()
    assert [re.sub(r"^\S+ ", "", line) for line in lines] == [
        "[INFO]  test: shown: value",
        "[DEBUG] test: now shown",
    ]
    assert path.stat().st_mode & 0o777 == 0o600


def test_logs_rotated_file_is_opened_again(log_file: tuple[Logs, Path]) -> None:
    logs, path = log_file
    path.rename(path.with_suffix(".1"))
    logs.reopen()
    logging.getLogger("baoha.test").warning("after")
    logs.close()
    assert "after" in path.read_text()


def test_logs_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing/x\.log"):
        Logs(level="info", format="standard", file=str(tmp_path / "missing" / "x.log"))


def test_logs_file_that_cannot_be_opened_again_is_named_in_the_old_one(
    log_file: tuple[Logs, Path],
) -> None:
    logs, path = log_file
    folder = path.with_suffix(".1")
    path.rename(folder)
    path.mkdir()
    logs.reopen()
    logging.getLogger("baoha.test").warning("after")
    logs.close()
    lines = folder.read_text().splitlines()
    assert "log file not reopened" in lines[0]
    assert "after" in lines[1]


@pytest.mark.parametrize("is_full", [False, True])
def test_logs_fifo_that_nobody_reads_never_blocks_the_caller(tmp_path: Path, is_full: bool) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    done = threading.Event()

    def use() -> None:
        logs = Logs(level="info", format="standard", file=str(fifo))
        for _ in range(2_000 if is_full else 1):
            logging.getLogger("baoha.test").info("%s", "x" * 100)
        logs.reopen()
        done.set()
        opened.append(logs)

    opened: list[Logs] = []
    thread = threading.Thread(target=use, daemon=True)
    thread.start()
    has_returned = done.wait(5)
    # Only now does somebody read, whatever became of the other side.
    with os.fdopen(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), "rb") as reading:
        os.set_blocking(reading.fileno(), True)
        assert has_returned
        first = os.read(reading.fileno(), 50)
        drain = threading.Thread(target=reading.read, daemon=True)
        drain.start()
        thread.join()
        opened[0].close()
        drain.join()
    assert b"xxx" in first


def test_logs_without_standard_error_go_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", None)
    before = set(threading.enumerate())
    logs = Logs(level="info", format="standard")
    (thread,) = set(threading.enumerate()) - before
    logging.getLogger("baoha.test").info("said to nobody")
    logs.close()
    assert not thread.is_alive()


def test_logs_blocked_output_never_blocks_the_caller() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "r") as drain, os.fdopen(writing, "w") as pipe:
        logs = Logs(level="info", format="standard", output=pipe)
        for _ in range(QUEUE_RECORDS_MAX + 500):
            logging.getLogger("baoha.test").info("%s", "x" * 100)
        # All calls have returned though nobody reads. What was lost is said once somebody does.
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(drain))
        reader.start()
        logs.close()
        pipe.close()
        reader.join()
    lost = [line for line in lines if "log lines were lost" in line]
    assert sum(int(line.rpartition("count=")[2]) for line in lost) == QUEUE_RECORDS_MAX + 500 - (
        len(lines) - len(lost)
    )
    assert lost
