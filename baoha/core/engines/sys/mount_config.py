"""
The settings of a mount: what a client sends, what is kept, and what is shown.

Rules of this file:

1. It is pure. Nothing of a request is kept unless all of it is right.
2. "Not given" has several forms (absent, null, ""): a TTL then stays as it is; "system" resets it.

Enabling takes the types of JSON as they are, tuning converts them: as measured on OpenBao 2.7.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from baoha.core.framework.fields import ITEMS_MAX, FieldError, to_duration_ns, to_duration_s
from baoha.core.framework.mount_entry import MountEntry, Table
from baoha.core.framework.ttl import TTLs
from baoha.errors import InvalidRequest
from baoha.sansio.durations import DurationError

LISTS: Final = (
    "audit_non_hmac_request_keys",
    "audit_non_hmac_response_keys",
    "passthrough_request_headers",
    "allowed_response_headers",
)
_TEXTS: Final = ("default_lease_ttl", "max_lease_ttl", "listing_visibility", "token_type")
_TTLS: Final = (("default_lease_ttl", "default"), ("max_lease_ttl", "max"))
_VISIBILITIES: Final = frozenset({"", "hidden", "unauth"})


def enabled_config(sent: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return what is kept of the ``config`` of a new mount.

    Raises:
        InvalidRequest: with the text for the client.
    """
    if not _has_right_types(sent):
        raise InvalidRequest("unable to convert given mount config information")
    ttls: dict[str, Any] = {}
    for name, label in _TTLS:
        try:
            ttls |= _ttl(sent, name)
        except (FieldError, DurationError) as exc:
            why = f"unable to parse {label} TTL of {sent[name]}: {exc}"
            raise InvalidRequest(why) from exc
    if ttls.get("max_lease_ttl") and ttls.get("default_lease_ttl", 0) > ttls["max_lease_ttl"]:
        raise InvalidRequest("given default lease TTL greater than given max lease TTL")
    lists = {name: list(map(_as_text, _as_list(sent[name]))) for name in LISTS if sent.get(name)}
    flags = {"force_no_cache": sent["force_no_cache"]} if sent.get("force_no_cache") else {}
    return ttls | lists | flags | _visibility(_as_text(sent.get("listing_visibility")))


def tuned_config(stored: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the settings of a mount after a tuning.

    Args:
        stored: the settings before.
        fields: what was sent, converted.

    Raises:
        InvalidRequest: with the text for the client.
    """
    config = dict(stored)
    try:
        for name, _ in _TTLS:
            config |= _ttl(fields, name)
    except (FieldError, DurationError) as exc:
        raise InvalidRequest(str(exc)) from exc
    for name in LISTS:
        if name in fields:
            config[name] = fields[name]
    if "listing_visibility" in fields:
        config["listing_visibility"] = ""
        config |= _visibility(fields["listing_visibility"])
    for name in (*LISTS, "listing_visibility"):
        if not config.get(name, True):
            del config[name]
    most, default = config.get("max_lease_ttl", 0), config.get("default_lease_ttl", 0)
    if most and default > most:
        raise InvalidRequest(
            f"backend max lease TTL of {most} would be less than backend default lease TTL of "
            f"{default}"
        )
    return config


def describe_tuning(entry: MountEntry, system: TTLs) -> dict[str, Any]:
    """Return the ``data`` object of a read of a mount's tuning, given the system's lifetimes."""
    ttl = system.of_mount(entry.config)
    described: dict[str, Any] = {
        "default_lease_ttl": ttl.default_s,
        "max_lease_ttl": ttl.max_s,
        "description": entry.description,
        "force_no_cache": entry.config.get("force_no_cache", False),
    }
    if entry.options:
        described["options"] = entry.options
    if entry.table == Table.AUTH:
        described["token_type"] = "default-service"  # noqa: S105 - a kind, not a secret
    shown = ("listing_visibility", *LISTS)
    return described | {name: entry.config[name] for name in shown if name in entry.config}


def _has_right_types(sent: Mapping[str, Any]) -> bool:
    # JSON numbers are texts to OpenBao.
    texts = [sent.get(name) for name in _TEXTS]
    lists = [_as_list(sent.get(name)) for name in LISTS]
    if sum(map(len, lists)) > ITEMS_MAX:
        return False
    return (
        all(value is None or _is_text(value) for value in texts)
        and isinstance(sent.get("force_no_cache"), bool | None)
        and all(_is_text(item) for items in lists for item in items)
        and not any(type(sent.get(name)) in (int, float) for name in LISTS)
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _as_text(value: Any) -> str:
    return "" if value is None else str(value)


def _as_list(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")] if value else []
    return [] if value is None else [value]


def _ttl(sent: Mapping[str, Any], name: str) -> dict[str, int]:
    value = sent.get(name)
    if value is None or value == "":
        return {}
    if value == "system":
        return {name: 0}
    # 0 is the system's TTL, which a fraction of a second does not mean.
    return {name: to_duration_s(value) or int(to_duration_ns(value) > 0)}


def _visibility(value: str) -> dict[str, str]:
    if value not in _VISIBILITIES:
        raise InvalidRequest(f"invalid listing_visibility {value}")
    return {"listing_visibility": value} if value else {}
