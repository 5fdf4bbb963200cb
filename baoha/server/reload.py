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
from collections.abc import Callable, Sequence
from dataclasses import fields, replace

from baoha.config.model import ListenerConfig, ServerConfig
from baoha.errors import ConfigError
from baoha.server.http.listener import APIListener
from baoha.server.logs import Logs, parse_level
from baoha.server.settings import tls_settings

logger = logging.getLogger("baoha.server.reload")

# What is told apart from the rest: the first is applied, the others are not settings.
_LOG_LEVEL = "log_level"
_NOT_SETTINGS = frozenset({"sources", "warnings"})


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
    try:
        settings = tls_settings(fresh)
    except ConfigError as error:
        logger.error("listener not reloaded: address=%s error=%s", config.address, str(error))
        return config
    if settings is None or listener.tls is None or not listener.tls.reload(settings):
        return config
    return replace(config, tls=fresh.tls)


def _changed(current: ServerConfig, fresh: ServerConfig) -> list[str]:
    changed = []
    for field in fields(ServerConfig):
        if field.name in _NOT_SETTINGS or field.name == _LOG_LEVEL:
            continue
        old, new = getattr(current, field.name), getattr(fresh, field.name)
        if field.name == "listeners":
            # These parts of listeners that kept their address have just been reloaded.
            old, new = [_not_reloaded(one) for one in old], [_not_reloaded(one) for one in new]
        if old != new:
            changed.append(field.name)
    return changed


def _not_reloaded(config: ListenerConfig) -> ListenerConfig:
    """Return what of a listener only a restart changes; TLS can only not be switched on or off."""
    tls = config.tls and replace(config.tls, cert_file="", key_file="", client_ca_file="")
    return replace(config, tls=tls, custom_response_headers={})
