"""
The diagnostic half of the command line: gather evidence, then judge it.

Rules of this package. Gathering (`survey.ask` and `gather`) uses GET only, carries no
token unless one was given, and never follows a Location by itself. Judging (`checks`) is pure:
evidence in, findings out, so that every rare pattern can be tested from a table. Read first:
``evidence.py``, ``run.py``, then one of the checks, such as ``diagnose/checks/leader.py``.

Source: docs/spec/cluster-cli.md section 6.
"""
