"""What the parts of a server are told: the configuration, and what the machine allows."""

from __future__ import annotations

import pytest

from baoha.config.model import ListenerConfig
from baoha.server import settings


@pytest.mark.parametrize(("memory", "largest"), [(2**40, 33_554_432), (160 * 2**20, 10 * 2**20)])
def test_largest_body_is_no_more_than_the_memory_allows(
    memory: int, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "usable_bytes", lambda: memory)
    config = ListenerConfig(type="tcp")
    policy = settings.listener_policy(config, name="listener 1")
    assert policy.max_request_bytes == largest
