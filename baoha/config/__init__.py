"""
Server configuration: files and environment in, one frozen ``ServerConfig`` out.

Files are read (``documents.py``), values converted (``values.py``) by the records of ``model.py``,
and put together with the environment (``load.py``); ``addresses.py`` judges the result, and
``effective.py`` and ``reference.py`` show it. Read first: ``model.py``, then ``load.py``.

Source: docs/spec/openbao-ha.md section 6; TOML is ours.
"""

from baoha.config.addresses import check_addresses, enforce
from baoha.config.documents import parse_document, read_documents
from baoha.config.effective import effective
from baoha.config.load import build, load
from baoha.config.model import (
    ForwardedForConfig,
    ListenerConfig,
    SealSettings,
    ServerConfig,
    Source,
    StorageConfig,
    TLSConfig,
)

__all__ = [
    "ForwardedForConfig",
    "ListenerConfig",
    "SealSettings",
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
