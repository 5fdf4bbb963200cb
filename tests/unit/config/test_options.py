"""
The record is the table: one field is a key for the loader, the page, the effective configuration
and SIGHUP.
"""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from baoha.config import schema
from baoha.config.model import ParkingConfig, TLSConfig
from baoha.config.options import group, option, options_of, settings_of, switch, values_for
from baoha.config.values import BOOL, COUNT, DURATION, TEXT
from baoha.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
CONFIG = ROOT / "baoha" / "config"
SOURCES = {
    path: ast.parse(path.read_text())
    for room in (ROOT / "baoha", ROOT / "cli")
    for path in sorted(room.rglob("*.py"))
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    """Keys with a prefix."""

    file: str = option(TEXT, "", "a file")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    """Two types of blocks."""

    wait_s: float = option(DURATION, 60.0, "how long", shown="1m")
    place: str = option(TEXT, "/x", "where", key="address", only="unix")
    derived: int = 0
    secure: Inner | None = group(
        Inner, "s_", only="tcp", unless=switch(BOOL, False, "not", key="s_off")
    )
    limits: Inner = group(Inner, "l_")


# --- records ------------------------------------------------------------------------------------


def test_options_of_record_are_its_fields_without_units_and_those_of_its_groups() -> None:
    assert list(options_of(Outer, "tcp")) == ["wait", "s_off", "s_file", "l_file"]
    assert list(options_of(Outer, "unix")) == ["wait", "address", "l_file"]
    assert list(options_of(Outer, "unix", "a.")) == ["a.wait", "a.address", "a.l_file"]
    wait = options_of(Outer)["wait"]
    assert (wait.kind, wait.default, wait.shown, wait.doc) == (DURATION, 60.0, "1m", "how long")


def test_values_for_record_come_from_its_keys() -> None:
    read = {"wait": 2.0, "s_off": False, "s_file": "a", "l_file": "b", "address": "c"}
    tcp = Outer(**values_for(Outer, read.__getitem__, "tcp"))
    assert tcp == Outer(wait_s=2.0, secure=Inner(file="a"), limits=Inner(file="b"))
    unix = Outer(**values_for(Outer, read.__getitem__, "unix"))
    assert unix == Outer(wait_s=2.0, place="c", limits=Inner(file="b"))


def test_settings_of_record_leave_out_a_group_that_is_switched_off() -> None:
    on = {one.key: value for one, value in settings_of(Outer(secure=Inner(file="a")), "tcp")}
    assert on == {"wait": 60.0, "s_off": False, "s_file": "a", "l_file": ""}
    off = {one.key: value for one, value in settings_of(Outer(), "tcp")}
    assert off == {"wait": 60.0, "s_off": True, "l_file": ""}


def test_secret_option_is_no_part_of_a_representation() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Secretive:
        key: str = option(TEXT, "", "secret", secret=True)
        count: int = option(COUNT, 3, "no secret")

    assert repr(Secretive(key="c4n4ry")).endswith("Secretive(count=3)")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"min_version": "tls13", "max_version": "tls12"}, "tls_min_version must not be above"),
        (
            {"require_and_verify_client_cert": True, "disable_client_certs": True},
            "cannot both be true",
        ),
    ],
)
def test_tls_record_that_contradicts_itself_is_refused(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        TLSConfig(cert_file="a", key_file="b", **changes)


def test_option_is_documented() -> None:
    for section in schema.SECTIONS.values():
        assert all(one.doc for one in section.values())


# --- a new key is one line ----------------------------------------------------------------------

# file, the line before which one is added, that line, its section of the page, its key
NEW_KEYS = [
    (
        "config/model.py",
        "    connections_max: int",
        '    new_wait_s: float = option(DURATION, 7.0, "a new key", shown="7s")',
        "listener.tcp",
        "listener.1.new_wait",
    ),
    (
        "config/model.py",
        "    hop_skips: int",
        '    new_rest_s: float = option(DURATION, 7.0, "a new key", shown="7s")',
        "listener.tcp",
        "listener.1.x_forwarded_for_new_rest",
    ),
    (
        "config/model.py",
        "    pid_file: str",
        '    new_pause_s: float = option(DURATION, 7.0, "a new key", shown="7s")',
        "top",
        "new_pause",
    ),
    (
        "timing.py",
        "    renew_timeout_s: float",
        '    new_delay_s: float = _duration(7.0, "a new key")',
        "ha",
        "ha.new_delay",
    ),
]

_FILE = """
api_addr = "http://127.0.0.1:8200"
new_pause = "{value}"
[storage.inmem]
[ha]
new_delay = "{value}"
[[listener.tcp]]
tls_disable = true
new_wait = "{value}"
x_forwarded_for_new_rest = "{value}"
"""

_ASK = """
from pathlib import Path
from baoha.config import effective, load
from baoha.config.reference import page_with_tables
from baoha.server.http.listener import APIListener
from baoha.server.logs import Logs
from baoha.server.reload import apply_reload

for row in effective(first := load([Path("before.toml")], {})):
    print("in force:", *row)
page = Path("page.md")
page.write_text(page_with_tables(page.read_text()))
listeners = [APIListener(None, one) for one in first.listeners]
logs = Logs(level="info", format="standard", file="log")
apply_reload(first, lambda: load([Path("after.toml")], {}), listeners, logs)
logs.close()
"""


def test_key_added_to_a_record_is_met_everywhere(tmp_path: Path) -> None:
    """
    Goal: one line is a whole key, of whatever record. Method: in a copy of the package such lines
    are added; then the copy is asked for all that knows keys.
    """
    copy = tmp_path / "baoha"
    shutil.copytree(ROOT / "baoha", copy, ignore=shutil.ignore_patterns("__pycache__"))
    for file, anchor, line, _, _ in NEW_KEYS:
        text = (copy / file).read_text()
        assert text.count(anchor) == 1
        (copy / file).write_text(text.replace(anchor, f"{line}\n{anchor}"))
    for name, value in (("before", "8s"), ("after", "9s")):
        (tmp_path / f"{name}.toml").write_text(_FILE.format(value=value))
    shutil.copy(ROOT / "docs" / "configuration.md", tmp_path / "page.md")
    done = subprocess.run(
        [sys.executable, "-c", _ASK],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    page, log = (tmp_path / "page.md").read_text(), (tmp_path / "log").read_text()
    for _, _, _, section, key in NEW_KEYS:
        table = page.partition(f"<!-- table {section} -->")[2].partition("<!-- end")[0]
        assert f"| `{key.rpartition('.')[2]}` | duration | `7s` | a new key |\n" in table
        assert f"in force: {key} 8s file before.toml:" in done.stdout
        assert f"changed, and takes effect with the next start: key={key}\n" in log
    assert log.count("takes effect with the next start") == len(NEW_KEYS)


# --- one place ----------------------------------------------------------------------------------

# What is judged beside other keys (addresses, seal keys, certificates, sizes, lease ttls), or shown
# by the banner and set by the development modes, is named there too. This may only shrink.
SEVERAL = {
    "address",
    "api_addr",
    "cluster_addr",
    "cluster_address",
    "default_lease_ttl",
    "disable_clustering",
    "log_file",
    "log_level",
    "max_lease_ttl",
    "max_request_duration",
    "max_request_size",
    "nice",
    "custom_response_headers",
    "current_key",
    "current_key_id",
    "previous_key",
    "previous_key_id",
    "tls_auto_reload_interval",
    "tls_cert_file",
    "tls_key_file",
}


def test_key_is_named_in_two_files_of_configuration_and_server_at_most() -> None:
    rooms = (CONFIG, ROOT / "baoha" / "server")
    named = [
        set(_names(tree))
        for path, tree in SOURCES.items()
        if any(path.is_relative_to(room) for room in rooms)
    ]
    keys = {**schema.TOP, **schema.LISTENER_TCP, **schema.LISTENER_UNIX, **schema.SEAL_STATIC}
    keys |= options_of(ParkingConfig)
    several = {key for key in keys if sum(bool(names & _fields(key)) for names in named) > 2}
    assert several == SEVERAL


# The value goes on under another name: of the key of a listener.
PASSED_ON = {"default_max_request_duration"}


def test_key_is_read_outside_the_configuration_or_has_no_effect() -> None:
    read = {
        node.attr
        for path, tree in SOURCES.items()
        if not path.is_relative_to(CONFIG)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    unread = {
        key
        for name, section in schema.SECTIONS.items()
        if name != "storage"  # old names of keys at the top
        for key in section
        if not _fields(key) & read
    }
    assert unread == PASSED_ON


def _fields(key: str) -> set[str]:
    """Return what the field of a key may be called, in the record of its group."""
    names = {key.removeprefix(prefix) for prefix in ("tls_", "x_forwarded_for_")}
    return names | {f"{name}_s" for name in names}


def _names(tree: ast.AST) -> Iterator[str]:
    """Return every name that code uses or makes, and every text that may be a key."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.keyword) and node.arg:
            yield node.arg
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
