"""
Server configuration: files and environment in, one frozen ``ServerConfig`` out.

Source: DESIGN.md section 7, spec/openbao-ha.md section 6.
"""

from baoha.config.addresses import Finding, check_addresses, enforce
from baoha.config.documents import parse_document, read_documents
from baoha.config.effective import effective
from baoha.config.load import build, load
from baoha.config.model import (
    ForwardedForConfig,
    ListenerConfig,
    SealConfig,
    ServerConfig,
    Source,
    StorageConfig,
    TLSConfig,
)

__all__ = [
    "Finding",
    "ForwardedForConfig",
    "ListenerConfig",
    "SealConfig",
    "ServerConfig",
    "Source",
    "StorageConfig",
    "TLSConfig",
    "build",
    "check_addresses",
    "effective",
    "enforce",
    "load",
    "parse_document",
    "read_documents",
]
