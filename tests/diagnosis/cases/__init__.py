"""
Scripted misconfigurations: how each is set up, and what must be found, and nothing else.

A module per hundred of the codes, as in ``baoha/diagnostics/codes/``. Rule of this package: a case
changes a healthy world in one respect. Read first: ``case.py``, then any other.
"""

from __future__ import annotations

from tests.diagnosis.cases import (
    addresses,
    balancer,
    forwarding,
    health,
    leader,
    port,
    reach,
    redirects,
    tls,
)
from tests.diagnosis.cases.case import Case

CASES: dict[str, Case] = {
    **addresses.CASES,
    **reach.CASES,
    **leader.CASES,
    **forwarding.CASES,
    **redirects.CASES,
    **port.CASES,
    **tls.CASES,
    **balancer.CASES,
    **health.CASES,
}
