"""
baoha: a highly available secrets server, compatible with OpenBao and Vault.

The promise: a planned change of the active node fails no request, a crashed
node is replaced in under a second, a deposed node can neither write nor answer.
ARCHITECTURE.md says which room holds what. Read first: ``node/node.py``, which puts
the rooms together.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
