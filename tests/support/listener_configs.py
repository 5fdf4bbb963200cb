"""Configurations of listeners for tests: on a free port, without TLS."""

from __future__ import annotations

from typing import Any

from baoha.config.model import ListenerConfig


def tcp_config(**keys: Any) -> ListenerConfig:
    """Return a tcp listener on a free port of the loopback address; fields may be given."""
    return ListenerConfig(**{"type": "tcp", "host": "127.0.0.1", **keys})
