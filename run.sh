#!/usr/bin/env bash
# The main job on a fresh machine: a three-node HA cluster here, over one SQLite store. Ctrl-C ends it.
# Needs Python 3.11 or newer with venv; everything else comes from PyPI into .venv.
set -eu
cd "$(dirname "$0")"
python=${PYTHON:-python3}
[ -x .venv/bin/python ] || "$python" -m venv .venv
.venv/bin/python -m pip install --quiet --disable-pip-version-check -e .
exec .venv/bin/baoha server --dev-ha 3 "$@"
