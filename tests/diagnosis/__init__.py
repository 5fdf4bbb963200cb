"""
The laboratory: ``baoha diagnose`` against misconfigured clusters.

Each case is a world (scripted nodes, ports, certificates) and the codes that must be found in it,
those and no others; a few worlds are real clusters. Read first: ``tests/diagnosis/cases/case.py``,
then ``tests/diagnosis/test_scripted.py``.
"""
