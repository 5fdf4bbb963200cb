"""
The form of an address: what is wrong with its text, whoever wrote or advertises it.

Rule of this file: one judgement for the configuration of this server (`baoha.config.addresses`) and
for what a running cluster advertises (`baoha diagnose`). Nothing is resolved or connected to.

Source: docs/spec/cluster-cli.md section 6.2 A.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

from baoha.diagnostics.code import Code
from baoha.diagnostics.codes.addresses import (
    IPV6_FORM,
    NO_HOST,
    NO_SCHEME,
    NO_USABLE_PORT,
    UNEXPANDED_VARIABLE,
)
from baoha.sansio.urls import split_url

SCHEMES: Final = ("http", "https")
_UNEXPANDED: Final = re.compile(r"\$\(|\$\{|\{\{|\}\}|\$[A-Za-z_]|%[A-Za-z_]+%|TEMPLATE_")


def address_form(text: str, *, schemes: Collection[str] | None = SCHEMES) -> Code | None:
    """
    Return what is wrong with the form of a URL, or None; no port at all is no fault of form.

    Args:
        text: as written or advertised.
        schemes: those that are right; None takes any.
    """
    address = split_url(text)
    if _UNEXPANDED.search(text):
        return UNEXPANDED_VARIABLE
    if not address.scheme or (schemes is not None and address.scheme.lower() not in schemes):
        return NO_SCHEME
    if address.unbracketed or "%" in address.host:
        return IPV6_FORM
    if not address.host:
        return NO_HOST
    if address.junk or (address.port_text is not None and not address.port):
        return NO_USABLE_PORT
    return None
