"""
What the configuration says of a node.

Rule of this file: values only, with units in their names, and the records that follow from them;
who reads the configuration fills them.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, field

from baoha import __version__, names
from baoha.core.view import NodeStatus, Role
from baoha.ha.context import NodeFacts
from baoha.sansio.crypto.seal_format import StaticSealKey
from baoha.timing import HATiming


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """
    What the configuration says of a node.

    Attributes:
        cluster_addr: "" switches clustering off.
        cluster_listen: (host, port) of every cluster listener.
        forwarding: off makes a standby redirect every client.
    """

    api_addr: str
    cluster_addr: str = ""
    cluster_listen: tuple[tuple[str, int], ...] = ()
    cluster_name: str = ""
    forwarding: bool = True
    timing: HATiming = field(default_factory=HATiming)
    static_seal_key: StaticSealKey | None = field(default=None, repr=False)
    hostname: str = field(default_factory=platform.node)
    park_requests_max: int = 1024
    park_bytes_max: int = 64 * 1024 * 1024

    def facts(self, identity: str) -> NodeFacts:
        """Return who the node is; ``identity`` is new for every process."""
        return NodeFacts(
            identity=identity,
            hostname=self.hostname,
            api_addr=self.api_addr,
            cluster_addr=self.cluster_addr,
            version=names.API_VERSION,
            software=f"baoha {__version__}",
        )

    def first_status(self, identity: str, *, ha_enabled: bool, storage_type: str) -> NodeStatus:
        """Return the picture of a node that has just started: sealed."""
        return NodeStatus(
            revision=0,
            node_id=identity,
            initialized=False,
            sealed=True,
            role=Role.SEALED,
            ha_enabled=ha_enabled,
            forwarding_enabled=self.forwarding and bool(self.cluster_addr),
            api_addr=self.api_addr,
            cluster_addr=self.cluster_addr,
            storage_type=storage_type,
        )
