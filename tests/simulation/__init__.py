"""
Whole clusters in one process, on a virtual clock: a seed is a world, and it replays.

Worlds, faults and checkers are in tests.support (scenario, simulation, checkers); here stand the
seeds, the single faults told one by one, and the proof that checkers notice a missing rule.
Read first: ``test_scenarios.py``, then ``test_determinism.py``.
"""
