"""The process entry: help, usage errors, Go's flag forms, signals, full and closed outputs."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer
from baoha_cli.failures import CommandFailed
from baoha_cli.main import main, shared_options_last
from baoha_cli.registry import COMMANDS
from baoha_cli.shell.command import leaf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.cli_lab import CommandLine, free_port

PYTHON = [sys.executable, "-m", "baoha_cli"]


@pytest.fixture
def cli(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> CommandLine:
    return CommandLine(monkeypatch, capfdbinary, str(tmp_path))


def process(*argv: str, **options: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*PYTHON, *argv], **options)  # type: ignore[call-overload,no-any-return]


def test_help_lists_every_command_and_loads_none(cli: CommandLine) -> None:
    ran = cli("--help")
    assert ran.code == 0
    for name, entry in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(entry.summary[:30])}", ran.out, re.M), name


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from baoha_cli.main import main; main(['--help']); "
        "heavy = {'trio', 'h11', 'ssl', 'yaml', 'rich', 'pydantic', 'cryptography'}; "
        "sys.exit(repr(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_version_loads_neither_trio_nor_pydantic() -> None:
    code = (
        "import sys; from baoha_cli.main import main; main(['version']); "
        "sys.exit(bool({'trio', 'ssl', 'pydantic'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_summary_in_the_registry_is_the_commands_own(name: str) -> None:
    entry = COMMANDS[name]
    module = import_module(f"baoha_cli.{entry.module}")
    loaded = typer.main.get_command(getattr(module, entry.app))
    assert (loaded.help or "").splitlines()[0] == entry.summary


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("flag", ["-h", "--help", "-help"])
def test_help_of_command_is_on_stdout_and_exits_zero(
    cli: CommandLine, name: str, flag: str
) -> None:
    ran = cli(name, flag)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"Usage: baoha {name}")


@pytest.mark.parametrize(
    "argv",
    [
        ["bogus"],
        ["status", "-bogus"],
        ["status", "--bogus"],
        ["status", "extra"],
        ["status", "-format=bogus"],
        ["status", "--retry", "x"],
        ["status", "--timeout", "soon"],
        ["status", "--exit-codes", "mine"],
        ["status", "--expect", "bogus"],
        ["status", "-address=127.0.0.1:8200"],
        ["status", "-address=http://"],
        ["status", "-address=http://[::1"],
        ["status", "-tls-skip-verify=maybe"],
        ["status", "--color", "pink"],
        ["status", "--address"],
        ["operator"],
        ["operator", "bogus"],
        ["operator", "unseal"],
        ["kv", "put", "secret/a"],
        ["kv", "get"],
        ["kv", "undelete", "secret/a"],
        ["wait"],
        ["write", "cubbyhole/x"],
        ["write", "cubbyhole/x", "novalue"],
        ["server"],
        ["server", "--dev", "--dev-ha", "3"],
        ["token", "revoke"],
        ["explain", "BH-000"],
        ["-bogus", "status"],
        [],
    ],
    ids=" ".join,
)
def test_usage_error_is_64_on_stderr_only(cli: CommandLine, argv: list[str]) -> None:
    ran = cli(*argv)
    assert ran.code == 64
    assert ran.out == ""
    assert ran.err
    assert "Traceback" not in ran.err


def test_usage_error_of_a_typo_names_what_was_meant(cli: CommandLine) -> None:
    assert "did you mean 'status'" in cli("statsu").err


def test_argument_as_environment_variable_is_a_usage_error_too(cli: CommandLine) -> None:
    cli.setenv("BAO_CLIENT_TIMEOUT", "x")
    ran = cli("status")
    assert ran.code == 64
    assert "BAO_CLIENT_TIMEOUT" in ran.err


# --- Go's flag forms ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "argv",
    [
        ["version", "-format=json"],
        ["version", "-format", "json"],
        ["version", "--format=json"],
        ["version", "-output=json"],
        ["version", "-o", "json"],
        ["version", "-o=json"],
        ["version", "-ojson"],
        ["-format=json", "version"],
        ["-o", "json", "version"],
        ["-tls-skip-verify", "version", "-format=json"],
        ["version", "-tls-skip-verify=false", "-format=json"],
        ["version", "-tls-skip-verify=true", "-format=json"],
        ["-format=json", "--version"],
    ],
    ids=" ".join,
)
def test_flag_in_any_form_of_go_or_gnu_is_the_same(cli: CommandLine, argv: list[str]) -> None:
    ran = cli(*argv)
    assert ran.code == 0, ran.err
    assert '"schema": "baoha.version/v1"' in ran.out


def test_format_variable_is_used_and_beaten_by_the_flag(cli: CommandLine) -> None:
    cli.setenv("VAULT_FORMAT", "json")
    assert cli("version").out.startswith("{")
    cli.setenv("BAO_FORMAT", "name")
    assert cli("version").out.startswith("0.")
    assert cli("version", "-format=table").out.startswith("baoha v")


def test_options_before_the_command_go_behind_it_but_not_behind_double_dash() -> None:
    moved = shared_options_last(["-address=http://a", "-o", "json", "write", "x", "--", "-k=v"])
    assert moved == ["write", "x", "-address=http://a", "-o", "json", "--", "-k=v"]


# --- endings ------------------------------------------------------------------------------------


def test_output_that_is_full_is_a_local_error_without_traceback() -> None:
    with open("/dev/full", "wb") as full:
        for argv in (["version"], ["--help"], ["version", "-o", "json"]):
            ran = subprocess.run([*PYTHON, *argv], stdout=full, stderr=subprocess.PIPE, check=False)
            assert ran.returncode == 1
            assert ran.stderr == b"Error: no space left on device\n"


def test_output_that_nobody_reads_ends_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ran = subprocess.run(
            [*PYTHON, "version"], stdout=writing, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(writing)
    assert (ran.returncode, ran.stderr) == (141, b"")


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["int", "term"]
)
def test_signal_while_waiting_ends_with_its_code_and_no_traceback(
    number: signal.Signals, code: int
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        argv = ["status", f"-address={url}", "--timeout=60s"]
        with process(*argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
            connection, _ = listener.accept()
            with connection:
                connection.recv(10)  # the request is there: the command is inside trio now
                running.send_signal(number)
                out, err = running.communicate(timeout=20)
    assert running.returncode == code
    assert out == b""
    assert b"Traceback" not in err


@pytest.mark.parametrize("argv", [["--help"], ["status", "-address=http://127.0.0.1:1"]])
def test_interrupt_while_modules_are_loaded_ends_quietly_with_its_code(argv: list[str]) -> None:
    """Goal: Ctrl-C right after the start prints no traceback, whatever it hits."""
    # An import hook is the only way to be certain that the interrupt comes within an import.
    code = (
        "import importlib.abc, os, signal, sys\n"
        "class Interrupt(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name in ('typer', 'baoha_cli.commands.status'):\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "from baoha_cli.entry import main\n"
        "sys.exit(main())\n"
    )
    ran = subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, check=False)
    assert (ran.returncode, ran.stderr) == (130, b"")


def test_interrupt_that_the_shell_has_ignored_stays_ignored() -> None:
    code = (
        "import os, signal; from baoha_cli.entry import main; "
        "signal.signal(signal.SIGINT, signal.SIG_IGN); main(); "
        "os.kill(os.getpid(), signal.SIGINT); print('alive')"
    )
    ran = subprocess.run([sys.executable, "-c", code, "version"], capture_output=True, check=False)
    assert ran.returncode == 0
    assert ran.stdout.endswith(b"alive\n")


def test_deadline_of_a_command_is_a_timeout(cli: CommandLine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        ran = cli("leader", f"-address={url}", "--deadline=200ms", "--timeout=20s")
    assert ran.code == 8
    assert "not done within 0.2s" in ran.err


def test_leaf_of_nested_groups_is_the_one_that_decides() -> None:
    inner = ExceptionGroup("inner", [ValueError("bug"), CommandFailed("said")])
    outer = BaseExceptionGroup("outer", [inner, KeyboardInterrupt()])
    assert isinstance(leaf(outer), KeyboardInterrupt)
    assert isinstance(leaf(inner), CommandFailed)


# --- whatever is typed --------------------------------------------------------------------------

WORDS = [
    *COMMANDS,
    *("get", "put", "init", "unseal", "--all", "members", "create", "lookup", "exit-codes"),
    *("-address=http://127.0.0.1:1", "--for", "ready", "-format=json", "-format=yaml", "-o"),
    *("--expect", "nodes=3", "-field=a.b", "--timeout", "1s", "-h", "--", "-", "@/nonexistent"),
    *("secret/a", "a=b", "=", "-=", "--=x", "--retry=0", "--quiet", "-w", "--deadline=100ms"),
]
# Not for random use: servers run until they are told to stop.
TYPED = st.lists(
    st.sampled_from([word for word in WORDS if word not in ("server", "login")])
    | st.text(max_size=12),
    max_size=6,
)


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(argv=TYPED)
def test_no_arguments_at_all_make_a_traceback_or_a_bug(cli: CommandLine, argv: list[str]) -> None:
    cli.setenv("BAO_ADDR", f"http://127.0.0.1:{free_port()}")
    if "server" in argv:
        return
    ran = cli(*argv, "--deadline=300ms", "--non-interactive")
    assert ran.code in {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 64}, (argv, ran)
    assert "Traceback" not in ran.err
    assert "internal error" not in ran.err


def test_argument_of_bytes_that_are_no_text_is_shown_escaped() -> None:
    ran = subprocess.run([*PYTHON, b"stat\xff\x1b[31m"], capture_output=True, check=False)
    assert ran.returncode == 64
    assert b"\x1b" not in ran.stderr


def test_bug_is_one_line_with_how_to_report_it(
    cli: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A command that is broken: its module's name is wrong in the registry.
    broken = COMMANDS["version"]._replace(app="no_such_app")
    monkeypatch.setitem(COMMANDS, "version", broken)
    ran = cli("version")
    assert ran.code == 70
    assert ran.out == ""
    assert len(ran.err.splitlines()) == 1
    assert "AttributeError" in ran.err
    assert "--debug" in ran.err
    assert "Traceback" in cli("version", "--debug").err


def test_main_without_arguments_reads_the_process_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["baoha", "version", "-q"])
    assert main() == 0
