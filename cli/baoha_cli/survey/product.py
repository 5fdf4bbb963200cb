"""
Which product a server is.

Rules of this file. Pure. By what the server says of itself, never by the store it keeps its data
in; what does not say enough is a "compatible server". This is the only place that tells baoha from
others.

Source: docs/spec/cluster-cli.md section 6.1; docs/api.md (sys/ha/live).
"""

from __future__ import annotations

import enum

from baoha.names import SOFTWARE
from baoha_cli.survey.look import NodeLook, Reply


class Product(enum.StrEnum):
    """Names of servers as people know them."""

    BAOHA = SOFTWARE
    OPENBAO = "OpenBao"
    VAULT = "Vault"
    OTHER = "compatible server"


def says_baoha(live: Reply) -> bool:
    """Return whether an answer to sys/ha/live is baoha's."""
    return live.status == 200 and live.body.get("software") == SOFTWARE


def product_of(look: NodeLook) -> Product:
    """Return the product, by its own words; OTHER also when it was not asked."""
    seal = look.report.seal
    if says_baoha(look.live):
        return Product.BAOHA
    if "build_date" in seal or "enterprise" in look.health.body:
        return Product.VAULT
    # baoha's sys/seal-status looks like OpenBao's: without sys/ha/live they cannot be told apart.
    return Product.OPENBAO if "commit_date" in seal and look.live.status else Product.OTHER
