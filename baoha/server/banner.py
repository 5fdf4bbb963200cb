"""
What ``baoha server`` prints on standard output: the configuration block and the lines around it.

Rule of this file: text in, text out; no secret is ever an argument.

Source: OpenBao 2.7.2 (recorded): labels right-aligned to 24 columns, sorted by their lower-case
key, and "(HA available)" behind a store that can hold the HA lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from baoha import __version__, names
from baoha.config.model import ListenerConfig, ServerConfig
from baoha.config.options import settings_of
from baoha.sansio.durations import format_duration
from baoha.storage.base import Backend

SHUTDOWN = "==> baoha shutdown triggered"
RELOAD = "==> baoha reload triggered"
STARTED = "==> baoha server started!"
LABEL_COLUMNS = 24
# Names in the environment that can change what the server does.
ENVIRONMENT_PREFIXES = ("BAOHA_", "BAO_", "VAULT_")


def configuration_block(info: Mapping[str, str]) -> str:
    """Return the block: one line for each entry, sorted by key."""
    lines = [f"{_title(key):>{LABEL_COLUMNS}}: {info[key]}" for key in sorted(info)]
    return "\n".join(["", "==> baoha server configuration:", "", *lines, ""])


def describe(
    config: ServerConfig,
    *,
    addresses: Sequence[str],
    backend: Backend,
    ha_backend: Backend | None,
    environ: Mapping[str, str],
) -> dict[str, str]:
    """
    Return the entries of the block.

    Args:
        addresses: what the listeners are bound to, in the order of the configuration.
        backend: the data store.
        ha_backend: the store of the HA lock where it is another one, else None.
        environ: only names of it are shown.
    """
    info = {
        "api address": config.api_addr,
        "cluster address": config.cluster_addr or "disabled",
        "log level": config.log_level,
        "storage": _storage(config.storage.type, backend, separate=ha_backend is not None),
        "version": f"baoha v{__version__}, API of OpenBao v{names.API_VERSION}",
        "environment variables": ", ".join(
            sorted(name for name in environ if name.startswith(ENVIRONMENT_PREFIXES))
        ),
    }
    if config.ha_storage is not None and ha_backend is not None:
        info["HA storage"] = _storage(config.ha_storage.type, ha_backend, separate=False)
    for number, (listener, address) in enumerate(zip(config.listeners, addresses, strict=True), 1):
        info[f"listener {number}"] = _listener(listener, address)
    return info


def _title(key: str) -> str:
    return " ".join(word[:1].upper() + word[1:] for word in key.split())


def _storage(name: str, backend: Backend, *, separate: bool) -> str:
    return f"{name} (HA available)" if backend.capabilities.ha and not separate else name


def _listener(config: ListenerConfig, address: str) -> str:
    fields = {"addr": f'"{address}"'}
    if config.cluster_address:
        fields["cluster address"] = f'"{config.cluster_address}"'
    fields["max_request_duration"] = _seconds(config.max_request_duration_s)
    fields["max_request_size"] = f'"{config.max_request_size}"'
    fields["tls"] = '"disabled"' if config.tls is None else '"enabled"'
    if config.forwarded_for.is_on:
        shown = settings_of(config.forwarded_for, prefix="x_forwarded_for_")
        fields |= {option.key: _value(value) for option, value in shown}
    return (
        f"{config.type} ({', '.join(f'{key}: {value}' for key, value in sorted(fields.items()))})"
    )


def _value(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"[{" ".join(value)}]"' if isinstance(value, tuple) else f'"{value}"'


def _seconds(value: float) -> str:
    return f'"{format_duration(round(value * 1_000_000_000))}"'
