"""
Rules of single modules, without a socket or a wait for real time where that is possible.

A test file is named after what it tests; ``test_structure.py`` holds the rules of the tree (who may
import whom, sizes) and ``test_citations.py`` those of its words. Read first: ``test_structure.py``.
"""
