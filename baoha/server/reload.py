"""
SIGHUP: what of a changed configuration takes effect without a restart.

Rules of this file:

1. A configuration that cannot be loaded changes nothing.
2. All of it runs in a thread, and touches nothing of the event loop: files may be slow.
3. The log says of every changed key whether it was taken over or needs a restart.

Source: OpenBao reloads listener certificates and the log level, and neither storage nor addresses
nor seal. Its log does not say which.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from baoha.config.effective import settings
from baoha.config.model import ListenerConfig, ServerConfig
from baoha.errors import ConfigError
from baoha.server.http.listener import APIListener
from baoha.server.logs import Logs, parse_level

logger = logging.getLogger("baoha.server.reload")


def apply_reload(
    current: ServerConfig,
    load_again: Callable[[], ServerConfig] | None,
    listeners: Sequence[APIListener],
    logs: Logs,
) -> ServerConfig:
    """
    Load the configuration again, apply what can be applied, and return what is in force now.

    Never raises for a bad file: the signal has no answer, so the log gets the error.
    """
    loaded = _load(current, load_again)
    fresh = current if loaded is None else loaded
    level_changed = fresh.log_level != current.log_level
    if level_changed:
        logs.set_level(parse_level(fresh.log_level))
        logger.info("reloaded: log_level=%s", fresh.log_level)
    logs.reopen()
    # What was taken over stays in force, whatever becomes of the files: it is what the next reload
    # begins with.
    in_force = replace(
        current,
        log_level=fresh.log_level,
        listeners=_reload_listeners(current.listeners, fresh.listeners, listeners),
    )
    if loaded == current:
        logger.info("configuration reloaded: nothing in it has changed")
    for key in _changed(in_force, fresh):
        logger.warning("changed, and takes effect with the next start: key=%s", key)
    return in_force


def _load(
    current: ServerConfig, load_again: Callable[[], ServerConfig] | None
) -> ServerConfig | None:
    """Return the configuration as its files say now; None: they cannot be loaded."""
    if load_again is None:
        return current
    try:
        fresh = load_again()
        parse_level(fresh.log_level)
    except ConfigError as error:
        logger.error("configuration not reloaded, the old one stays: error=%s", str(error))
        return None
    return fresh


def _reload_listeners(
    before: Sequence[ListenerConfig],
    after: Sequence[ListenerConfig],
    listeners: Sequence[APIListener],
) -> tuple[ListenerConfig, ...]:
    """Reload every listener that kept its address, and return what is in force now."""
    configured = {(config.type, config.address): config for config in after}
    return tuple(
        _reload_listener(config, configured.get((config.type, config.address), config), listener)
        for config, listener in zip(before, listeners, strict=True)
    )


def _reload_listener(
    config: ListenerConfig, fresh: ListenerConfig, listener: APIListener
) -> ListenerConfig:
    """Take over certificates (from new files, where new ones are named) and response headers."""
    if fresh.custom_response_headers != config.custom_response_headers:
        listener.headers.configured = fresh.custom_response_headers
        config = replace(config, custom_response_headers=fresh.custom_response_headers)
        logger.info("reloaded: custom_response_headers of %s", config.address)
    if fresh.tls is None or listener.tls is None or not listener.tls.reload(fresh.tls):
        return config
    return replace(config, tls=fresh.tls)


def _changed(in_force: ServerConfig, fresh: ServerConfig) -> list[str]:
    """Return what differs and only a restart changes: keys, or "listener" for all its blocks."""
    same_places = _places(in_force) == _places(fresh)
    listeners = in_force.listeners
    if same_places:
        pairs = zip(in_force.listeners, fresh.listeners, strict=True)
        listeners = tuple(_without_reported(old, new) for old, new in pairs)
    before = {one.key: one.value for one in settings(in_force)}
    after = {one.key: one.value for one in settings(replace(fresh, listeners=listeners))}
    keys = [key for key in {**before, **after} if _differs(key, before, after)]
    return keys if same_places else [*keys, "listener"]


def _differs(key: str, before: Mapping[str, object], after: Mapping[str, object]) -> bool:
    if key in before and key in after:
        return before[key] != after[key]
    # Keys that a listener has not at one time belong to what another key switches: that is named.
    return not key.startswith("listener.")


def _without_reported(old: ListenerConfig, new: ListenerConfig) -> ListenerConfig:
    """Return ``new`` with the old TLS: what could not be taken over of it has been reported."""
    return replace(new, tls=old.tls) if old.tls is not None and new.tls is not None else new


def _places(config: ServerConfig) -> list[tuple[str, str]]:
    return [(one.type, one.address) for one in config.listeners]
