"""
The diagnostic half of the command line: gather evidence, then judge it.

Rules of this package. Gathering (`ask`, `looks`, `chains`, `balancer`) uses GET only, carries no
token unless one was given, and never follows a Location by itself. Judging (`checks_*`) is pure:
evidence in, findings out, so that every rare pattern can be tested from a table. Read first:
``evidence.py``, ``run.py``, then one of the checks, such as ``checks_leader.py``.

Source: docs/spec/cluster-cli.md section 6.
"""
