"""
Configuration files and environment variables, made into one ``ServerConfig``.

Rules of this file: later files win, key by key; listeners add up; an environment variable beats
every file. No input raises anything but ``ConfigError``. Nothing is connected to or opened but the
files that are named, and the key files that a static seal names.

The addresses are taken as they are here; ``addresses.check_addresses`` judges them.

Source: docs/spec/openbao-ha.md section 6; TOML is ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Literal, cast

from baoha.config.documents import ConfigDocument, read_documents
from baoha.config.environment import lookup
from baoha.config.host_addresses import read_host_addresses
from baoha.config.listeners import build_listener, listener_section
from baoha.config.model import ListenerConfig, SealSettings, ServerConfig, Source, StorageConfig
from baoha.config.options import values_for
from baoha.config.schema import (
    BLOCKS,
    HA,
    NO_EFFECT,
    REDIRECT_ENV,
    SEAL_SHAMIR,
    SEAL_STATIC,
    TOP,
)
from baoha.config.seal_keys import read_key
from baoha.config.sections import Section
from baoha.config.sockaddr import HostAddresses, render
from baoha.config.storage_blocks import (
    StorageDraft,
    VariablesOf,
    apply_storage_environment,
    check_storage,
    no_variables,
    read_storage,
)
from baoha.config.values import BadValue
from baoha.errors import ConfigError
from baoha.sansio.formats.hcl import HCLError
from baoha.sansio.urls import join_host_port, next_port, split_url

SealType = Literal["shamir", "static"]
ListenerType = Literal["tcp", "unix"]


def load(
    paths: Sequence[Path],
    environ: Mapping[str, str],
    *,
    variables_of: VariablesOf = no_variables,
    read_secrets: bool = True,
    host_addresses: HostAddresses = read_host_addresses,
) -> ServerConfig:
    """
    Read the configuration of a node.

    Args:
        paths: files (``*.toml``; any other name is HCL or JSON) and directories of them.
        variables_of: the environment variables of a store, by its name; a store's row tells
            (``baoha.storage.registry``), and this package knows no stores.
        read_secrets: False leaves the keys of a static seal unread, so that a configuration can be
            checked on another machine.
        host_addresses: asked only if an address holds a template.

    Raises:
        ConfigError: something is missing, malformed, unknown or contradictory.
    """
    return build(
        read_documents(paths),
        environ,
        variables_of=variables_of,
        read_secrets=read_secrets,
        host_addresses=host_addresses,
    )


def build(
    documents: Sequence[ConfigDocument],
    environ: Mapping[str, str],
    *,
    variables_of: VariablesOf = no_variables,
    read_secrets: bool = True,
    host_addresses: HostAddresses = read_host_addresses,
) -> ServerConfig:
    """
    As ``load``, from documents that were read before.

    Raises:
        ConfigError: as ``load``.
    """
    draft = _Draft()
    for document in documents:
        draft.read(document)
    draft.read_environment(environ, variables_of)
    return draft.finish(environ, read_secrets=read_secrets, host_addresses=host_addresses)


class _Draft:
    """What was read so far."""

    def __init__(self) -> None:
        self.top = Section(TOP, no_effect=NO_EFFECT["top"], blocks=BLOCKS)
        self.ha = Section(HA, prefix="ha.")
        self.seal_type: SealType = "shamir"
        self.seal = Section(SEAL_SHAMIR, prefix="seal.")
        self.stores: dict[str, StorageDraft] = {}
        self.listeners: list[tuple[ListenerType, Section]] = []

    def read(self, document: ConfigDocument) -> None:
        self.top.read(document, document.block)
        for key in ("storage", "ha_storage"):
            store = read_storage(document, key)
            if store is not None:
                self.stores[key] = store
        try:
            for _, block, _ in document.block.blocks("ha", labels=0):
                self.ha.read(document, block)
            self._read_seal(document)
            self._read_listeners(document)
        except HCLError as exc:
            document.fail(exc)

    def read_environment(self, environ: Mapping[str, str], variables_of: VariablesOf) -> None:
        for section in (self.top, self.ha, self.seal):
            section.read_environment(environ)
        for key, store in self.stores.items():
            apply_storage_environment(store, key, environ, variables_of)

    def finish(
        self, environ: Mapping[str, str], *, read_secrets: bool, host_addresses: HostAddresses
    ) -> ServerConfig:
        disable_clustering = self.top.flag("disable_clustering")
        storage = check_storage(
            self.stores.get("storage"),
            self.stores.get("ha_storage"),
            disable_clustering=disable_clustering,
        )
        listeners = self._listeners(host_addresses)
        api_addr = render(self._api_addr(environ), "api_addr", host_addresses)
        given = "" if disable_clustering else self._cluster_addr()
        given = render(given, "cluster_addr", host_addresses)
        if not given and self._has_raft():
            raise ConfigError("cluster address must be set when using raft storage")
        derived = "" if disable_clustering else self._derived(api_addr, given, listeners)
        ha_storage = self.stores.get("ha_storage")
        read = values_for(ServerConfig, self._get)
        if min(read["default_lease_ttl_s"], read["max_lease_ttl_s"]) < 1:
            raise ConfigError("default_lease_ttl and max_lease_ttl must be 1s or more, or 0")
        if read["default_lease_ttl_s"] > read["max_lease_ttl_s"]:
            raise ConfigError("default_lease_ttl must not be above max_lease_ttl")
        read |= {"api_addr": api_addr, "cluster_addr": derived}
        return ServerConfig(
            **read,
            cluster_addr_given=given,
            storage=storage.finished(),
            ha_storage=_finished(ha_storage),
            listeners=listeners,
            seal=self._seal_config(environ, read_secrets=read_secrets),
            sources=MappingProxyType(self._sources()),
            warnings=tuple(self._warnings()),
        )

    def _get(self, key: str) -> object:
        """Return the value of a key at the top, or of one of the ``ha`` block."""
        if key.startswith(self.ha.prefix):
            return self.ha.get(key.removeprefix(self.ha.prefix))
        return self.top.get(key)

    def _read_seal(self, document: ConfigDocument) -> None:
        found = list(document.block.blocks("seal", labels=1))
        if len(found) > 1:
            raise ConfigError(f"{document.where(found[1][2])}: only one seal block is permitted")
        for (kind,), block, item in found:
            if kind == "static":
                self.seal_type, options = "static", SEAL_STATIC
            elif kind == "shamir":
                self.seal_type, options = "shamir", SEAL_SHAMIR
            else:
                raise ConfigError(
                    f'{document.where(item)}: unknown seal type "{kind}"; '
                    "supported are: shamir, static"
                )
            self.seal = Section(options, prefix="seal.")
            self.seal.sources["seal.type"] = Source(text=f"file {document.where(item)}")
            self.seal.read(document, block)

    def _read_listeners(self, document: ConfigDocument) -> None:
        for (kind,), block, item in document.block.blocks("listener", labels=1):
            try:
                section = listener_section(kind, len(self.listeners) + 1)
            except ConfigError as exc:
                raise ConfigError(f"{document.where(item)}: {exc}") from exc
            section.sources[f"{section.prefix}type"] = Source(text=f"file {document.where(item)}")
            section.read(document, block)
            self.listeners.append((cast("ListenerType", kind), section))

    def _listeners(self, host_addresses: HostAddresses) -> tuple[ListenerConfig, ...]:
        if not self.listeners:
            raise ConfigError("at least one listener must be specified")
        return tuple(
            build_listener(
                kind,
                section,
                max_request_duration_s=self.top.seconds("default_max_request_duration"),
                host_addresses=host_addresses,
            )
            for kind, section in self.listeners
        )

    def _api_addr(self, environ: Mapping[str, str]) -> str:
        option = self.top.options["api_addr"]
        for name in REDIRECT_ENV:
            found = lookup(environ, name)
            if found is not None:
                if name == option.env:
                    break  # already read
                self.top.override(option, found[1], Source(text=f"env {found[0]}"))
                return self.top.text("api_addr")
        return self.top.text("api_addr") or self._from_stores("redirect_addr", "advertise_addr")

    def _cluster_addr(self) -> str:
        return self.top.text("cluster_addr") or self._from_stores("cluster_addr")

    def _from_stores(self, *keys: str) -> str:
        """Return an address that stands in the HA store's block, or else in the data store's."""
        store = self.stores.get("ha_storage") or self.stores["storage"]
        if keys == ("cluster_addr",) and store.addresses.flag("disable_clustering"):
            return ""
        for key in keys:
            if store.addresses.text(key):
                name = "cluster_addr" if key == "cluster_addr" else "api_addr"
                self.top.sources[name] = store.addresses.sources[store.addresses.prefix + key]
                return store.addresses.text(key)
        return ""

    def _has_raft(self) -> bool:
        return any(store.type == "raft" for store in self.stores.values())

    def _derived(self, api_addr: str, given: str, listeners: Sequence[ListenerConfig]) -> str:
        """Return the advertised cluster address; note where it came from if nobody gave it."""
        if given:
            scheme, separator, rest = given.partition("://")
            return f"https://{rest}" if separator and scheme else given
        address = split_url(api_addr)
        port = address.port if address.port_text is not None else 443
        if api_addr and address.host and port is not None:
            self.top.sources["cluster_addr"] = Source(text="derived from api_addr")
            return f"https://{join_host_port(address.host, next_port(port))}"
        listening = [one.cluster_address for one in listeners if one.cluster_address]
        if not api_addr and len(listening) == 1:
            self.top.sources["cluster_addr"] = Source(text="derived from the listener")
            return f"https://{listening[0]}"
        return ""

    def _seal_config(self, environ: Mapping[str, str], *, read_secrets: bool) -> SealSettings:
        if self.seal_type == "shamir":
            return SealSettings()
        keys: dict[str, bytes | None] = {}
        for name in ("current_key", "previous_key"):
            text = self.seal.text(name)
            if bool(text) != bool(self.seal.text(f"{name}_id")):
                raise ConfigError(f"seal.{name} and seal.{name}_id must be set together")
            try:
                keys[name] = read_key(text, environ) if text and read_secrets else None
            except BadValue as exc:
                raise ConfigError(f"seal.{name} {exc}") from exc
        if not self.seal.text("current_key"):
            raise ConfigError("seal.current_key and seal.current_key_id must be set")
        if self.seal.text("current_key_id") == self.seal.text("previous_key_id"):
            raise ConfigError("seal.previous_key_id must differ from seal.current_key_id")
        return SealSettings(
            type="static",
            current_key_id=self.seal.text("current_key_id"),
            current_key=keys["current_key"],
            previous_key_id=self.seal.text("previous_key_id"),
            previous_key=keys["previous_key"],
        )

    def _sources(self) -> dict[str, Source]:
        sources = self.top.sources | self.ha.sources | self.seal.sources
        for store in self.stores.values():
            sources |= store.sources
        for _, section in self.listeners:
            sources |= section.sources
        return sources

    def _warnings(self) -> list[str]:
        sections = [self.top, self.ha, self.seal, *(section for _, section in self.listeners)]
        return [warning for section in sections for warning in section.warnings]


def _finished(draft: StorageDraft | None) -> StorageConfig | None:
    return draft.finished() if draft is not None else None
