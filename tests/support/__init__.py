"""
What the tests are built with: worlds, clusters, load, checkers. No tests.

From small to large: values and fakes that keep the contract of the real thing, one node on a
virtual clock, a simulated cluster, real processes; tests/support/README.md says which when. Read
first: ``node_settings.py``, ``simulation.py``, then ``scenario.py``.
"""
