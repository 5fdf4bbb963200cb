"""
All tests, by kind: a folder for each row of the table in docs/testing.md.

``unit`` needs nothing, ``conformance`` and ``simulation`` a virtual clock, ``cluster``,
``differential`` and ``lab`` real processes. Nothing is mocked or skipped. Read first:
``conftest.py``, then ``support/__init__.py`` (what tests are built with).
"""
