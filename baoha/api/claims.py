"""
On whose account a request takes its share of what is bounded.

Rule of this file: a claim is a hint; it decides who gives way, never who may do what.
"""

from __future__ import annotations

from baoha.api.logical import token_of
from baoha.core.view import NodeView
from baoha.sansio.shares import Claim, client_address
from baoha.sansio.wire.messages import HTTPRequest


async def claim_of(view: NodeView, request: HTTPRequest) -> Claim:
    """Return the client's address, and whether its token is known. Takes half a second at most."""
    is_known = await view.vouches_for(token_of(request))
    return Claim(client_address(request.remote_addr), is_known)
