"""
Environment variables: BAOHA_X beats BAO_X beats VAULT_X.

Rule of this file: the first name that is *set* decides, even when it is set to nothing. What it
then says is used if it is not empty; otherwise the file's value stays.

Source: docs/spec/openbao-ha.md section 6.1; BAOHA_ is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

PREFIXES: Final = ("BAOHA_", "BAO_", "VAULT_")


def lookup(environ: Mapping[str, str], name: str) -> tuple[str, str] | None:
    """
    Return (variable, value) of the variable that decides, or None if its value is empty or unset.

    Args:
        name: without the prefix, such as "API_ADDR".
    """
    for prefix in PREFIXES:
        value = environ.get(prefix + name)
        if value is not None:
            return (prefix + name, value) if value else None
    return None
