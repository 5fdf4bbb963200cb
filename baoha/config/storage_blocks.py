"""
``storage`` and ``ha_storage`` blocks: which stores, with which settings.

Rule of this file: settings pass through as they are written (the store knows its keys, and refuses
others); only the keys that speak of the node (``redirect_addr``, ``cluster_addr``) are taken out.

Source: docs/spec/openbao-ha.md sections 6.1 and 6.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from baoha.config.documents import ConfigDocument
from baoha.config.environment import lookup
from baoha.config.model import Source, StorageConfig
from baoha.config.schema import STORAGE_ADDRESSES
from baoha.config.sections import Section
from baoha.errors import ConfigError
from baoha.sansio.formats.hcl import Block, HCLError, Item, Value

# A store's name to the environment variables that replace its settings: key to name without prefix.
VariablesOf = Callable[[str], Mapping[str, str]]
OLD_NAMES: Final = MappingProxyType({"storage": "backend", "ha_storage": "ha_backend"})


@dataclass(slots=True)
class StorageDraft:
    """
    One block as read; ``addresses`` are the keys that speak of the node.
    """

    type: str
    where: str
    settings: dict[str, object] = field(default_factory=dict, repr=False)
    sources: dict[str, Source] = field(default_factory=dict)
    addresses: Section = field(default_factory=lambda: Section(STORAGE_ADDRESSES))

    def finished(self) -> StorageConfig:
        """
        Return the block, no longer changeable.
        """
        return StorageConfig(type=self.type, settings=MappingProxyType(dict(self.settings)))


def read_storage(document: ConfigDocument, key: str) -> StorageDraft | None:
    """
    Return the block of one file, under its name or its old name; None if there is none.

    Args:
        key: "storage" or "ha_storage".

    Raises:
        ConfigError: there are several, or it is no block with one label.
    """
    try:
        found = [
            block
            for name in (key, OLD_NAMES[key])
            for block in document.block.blocks(name, labels=1)
        ]
    except HCLError as exc:
        document.fail(exc)
    if len(found) > 1:
        where = document.where(found[1][2])
        raise ConfigError(f'{where}: only one "{key}" block is permitted')
    for (store,), block, item in found:
        return _read_block(document, key, store, block, item)
    return None


def no_variables(store: str) -> Mapping[str, str]:
    """
    Return the variables of a store for a reader who knows no stores: none.
    """
    return MappingProxyType({})


def apply_storage_environment(
    draft: StorageDraft, key: str, environ: Mapping[str, str], variables_of: VariablesOf
) -> None:
    """
    Let the environment replace settings of this block, by the variables that its store names.
    """
    for setting, name in variables_of(draft.type).items():
        found = lookup(environ, name)
        if found is None:
            continue
        variable, value = found
        before = draft.sources.get(f"{key}.{setting}")
        differs = before is not None and draft.settings.get(setting) != value
        draft.settings[setting] = value
        draft.sources[f"{key}.{setting}"] = Source(
            text=f"env {variable}", overridden=before.text if before is not None and differs else ""
        )


def check_storage(
    storage: StorageDraft | None, ha_storage: StorageDraft | None, *, disable_clustering: bool
) -> StorageDraft:
    """
    Refuse combinations of stores that cannot work; return the data store.

    Raises:
        ConfigError: with OpenBao's words.
    """
    if storage is None:
        raise ConfigError("a storage backend must be specified")
    if storage.type == "raft":
        if ha_storage is not None and ha_storage.type == "raft":
            raise ConfigError(
                "Raft cannot be set both as 'storage' and 'ha_storage'. Setting 'storage' to "
                "'raft' will automatically set it up for HA operations as well"
            )
        if ha_storage is not None:
            raise ConfigError("HA storage cannot be declared when Raft is the storage type")
        if disable_clustering:
            raise ConfigError(
                "disable clustering cannot be set to true when Raft is the storage type"
            )
    if ha_storage is not None and ha_storage.type == "raft" and disable_clustering:
        raise ConfigError(
            "disable clustering cannot be set to true when Raft is the HA storage type"
        )
    return storage


def _read_block(
    document: ConfigDocument, key: str, store: str, block: Block, opening: Item
) -> StorageDraft:
    draft = StorageDraft(store, document.where(opening))
    draft.addresses.prefix = f"{key}."
    draft.sources[f"{key}.type"] = Source(text=f"file {draft.where}")
    addresses: list[Item] = []
    for item in block.items:
        if item.key in STORAGE_ADDRESSES:
            addresses.append(item)
            continue
        if item.labels:
            raise ConfigError(f"{document.where(item)}: {key}.{item.key} takes no label")
        value = _plain(item.value)
        known = draft.settings.get(item.key)
        if isinstance(known, list) and isinstance(value, list) and isinstance(item.value, Block):
            value = [*known, *value]  # one more ``retry_join { }``
        draft.settings[item.key] = value
        draft.sources[f"{key}.{item.key}"] = Source(text=f"file {document.where(item)}")
    draft.addresses.read(document, Block(tuple(addresses)))
    return draft


def _plain(value: Value) -> object:
    """Return a setting as plain data; an inner block is a list of dicts, even a single one."""
    if isinstance(value, Block):
        return [value.to_plain()]
    if isinstance(value, list):
        return [part.to_plain() if isinstance(part, Block) else _plain(part) for part in value]
    return value
