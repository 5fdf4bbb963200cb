"""
Everything that is checked, as sessions. ``nox`` runs what a change needs, ``nox -l`` lists all.

Rule of this file: a session installs what it needs, services too; nothing is skipped silently.
"""

from __future__ import annotations

import nox

nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = True
nox.options.sessions = ["lint", "unit", "conformance", "simulation", "cluster", "differential"]


@nox.session
def fmt(session: nox.Session) -> None:
    """Format the tree."""
    session.install("-e", ".[lint]")
    session.run("ruff", "check", "--fix", ".")
    session.run("ruff", "format", ".")


@nox.session
def lint(session: nox.Session) -> None:
    """ruff, flake8-async, mypy --strict."""
    session.install("-e", ".[lint]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("flake8", "baoha", "cli", "benchmarks", "testbed", "tests")
    session.run("mypy")


@nox.session
def unit(session: nox.Session) -> None:
    """Rules of single modules, and the structure of the tree."""
    session.install("-e", ".[test]")
    session.run("pytest", "-n", "2", "tests/unit", *session.posargs)


@nox.session
def conformance(session: nox.Session) -> None:
    """Every store against the contract, the HTTP API against the recordings, hostile inputs."""
    session.install("-e", ".[test]")
    # How long a turn of the event loop is, is measured with nothing beside it.
    loop = [f"tests/conformance/test_{name}.py" for name in ("hostile_requests", "long_turns")]
    rest = [f"--ignore={name}" for name in loop]
    session.run("pytest", "-n", "2", "tests/conformance", *rest, *session.posargs)
    session.run("pytest", *loop, *session.posargs)


@nox.session
def simulation(session: nox.Session) -> None:
    """Whole clusters on a virtual clock. ``-- --seeds 5000`` for more, ``-- --seed N`` for one."""
    session.install("-e", ".[test]")
    session.run("pytest", "-n", "2", "tests/simulation", *session.posargs)


@nox.session
def cluster(session: nox.Session) -> None:
    """Real processes, sockets and signals."""
    session.install("-e", ".[test]")
    session.run("pytest", "tests/cluster", *session.posargs)


@nox.session
def differential(session: nox.Session) -> None:
    """baoha beside a real OpenBao, foreign clients, and the diagnostics on real clusters."""
    session.install("-e", ".[test]")
    session.run("pytest", "tests/differential", "tests/diagnosis", *session.posargs)
