"""
Checks of configuration files (BH-1xx): no network, one file (or directory) per node.

Rules of this file. Nothing is connected to or resolved. What the server itself checks comes from
`baoha.config`, word for word; what only several nodes side by side can show is added here.

Theory of operation. OpenBao's files are read as they are. What baoha does not have (a seal by a
cloud service, a product's own keys) is no matter of addresses: a file that baoha would not start
with is judged by its addresses, stores and listeners alone.

Source: docs/spec/cluster-cli.md section 6.2 A.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from baoha.diagnostics.code import Code, Finding, Severity
from baoha.diagnostics.codes.addresses import NOT_ROUTABLE, SHARED_API_ADDR, TWO_NODES_ONE_ADDRESS
from baoha_cli.exits import Verdict
from baoha_cli.failures import CommandFailed

if TYPE_CHECKING:
    from baoha.config import ServerConfig
    from baoha.config.documents import ConfigDocument

_PLACE: Final = re.compile(r"^file (?P<file>.+?)(?::(?P<line>\d+))?$")
# OpenBao's stores that several nodes can share: its files are read on machines without them.
_FOREIGN_HA: Final = frozenset({"postgresql", "etcd", "raft", "consul"})
_KEYS: Final = ("api_addr", "cluster_addr", "disable_clustering")
_ADDRESS_BLOCKS: Final = frozenset(
    {*_KEYS, "storage", "ha_storage", "backend", "ha_backend", "listener"}
)


@dataclass(frozen=True)
class ConfigLook:
    """One node's configuration: where it stands, and what it comes to."""

    label: str
    path: Path
    config: ServerConfig
    findings: tuple[Finding, ...]


def read_configs(paths: Sequence[Path], environ: Mapping[str, str]) -> list[ConfigLook]:
    """
    Read the configuration of each node.

    Raises:
        CommandFailed: one cannot be read, or is malformed.
    """
    from baoha.config import check_addresses

    looks = []
    for path in paths:
        config = _load(path, environ)
        findings = tuple(check_addresses(config, _ha_of))
        looks.append(ConfigLook(path.name, path, config, findings))
    names = [look.label for look in looks]
    return [
        look if names.count(look.label) == 1 else replace(look, label=str(look.path))
        for look in looks
    ]


def _ha_of(store: str) -> bool | None:
    """Return whether several nodes can share a store; None: nobody here knows it."""
    from baoha.storage.registry import is_ha

    known = is_ha(store)
    return True if known is None and store in _FOREIGN_HA else known


def check(looks: Sequence[ConfigLook]) -> Iterator[Finding]:
    """Judge each configuration, then all of them side by side."""
    for look in looks:
        for finding in look.findings:
            yield _single(look, finding, len(looks))
    if len(looks) > 1:
        yield from _side_by_side(looks)


def check_certificates(looks: Sequence[ConfigLook], now: float) -> Iterator[Finding]:
    """Judge the certificate files that can be read here."""
    from baoha_cli.diagnose.checks.tls import certificate_faults
    from baoha_cli.diagnose.gather.certificates import read_pem

    for look in looks:
        for listener in look.config.listeners:
            if listener.tls is None:
                continue
            path = Path(listener.tls.cert_file)
            try:
                data = path.read_bytes()
            except OSError:
                continue  # it is on another machine
            for certificate in read_pem(data):
                for found in certificate_faults(look.label, str(path), certificate, now, ()):
                    yield replace(found, file=str(path))


def _single(look: ConfigLook, finding: Finding, nodes: int) -> Finding:
    """Return what the server says of its own file, as one of several files."""
    severity = finding.severity
    # One file cannot know whether other machines are meant; several files mean other machines
    # only if they do not all live on loopback (then it is a laboratory).
    if finding.code is NOT_ROUTABLE and nodes > 1:
        severity = Severity.ERROR
    file, line = _place(look, finding)
    return replace(finding, node=look.label, severity=severity, file=file, line=line)


def _side_by_side(looks: Sequence[ConfigLook]) -> Iterator[Finding]:
    pairs: defaultdict[tuple[str, str], list[ConfigLook]] = defaultdict(list)
    for look in looks:
        pairs[(look.config.api_addr.lower(), look.config.cluster_addr.lower())].append(look)
    for (api, cluster), same in pairs.items():
        if len(same) > 1 and api and cluster:
            names = ", ".join(look.label for look in same)
            text = f"{names}: the same api_addr {api} and cluster_addr {cluster}"
            yield _several(TWO_NODES_ONE_ADDRESS, same[1], text)
    apis = {look.config.api_addr.lower() for look in looks}
    if len(apis) == 1 and "" not in apis and len(pairs) == len(looks):
        text = f"all {len(looks)} nodes have the same api_addr {apis.pop()}"
        yield _several(SHARED_API_ADDR, looks[0], text)


def _several(code: Code, look: ConfigLook, text: str) -> Finding:
    source = look.config.sources.get("api_addr")
    file, line = _split(source.text if source else "")
    return code.at(look.label, text, file=file or str(look.path), line=line)


def _place(look: ConfigLook, finding: Finding) -> tuple[str, int]:
    """Find the line that a finding is about, by the first key that its message names."""
    for key in _KEYS:
        source = look.config.sources.get(key)
        if key in finding.text and source is not None:
            file, line = _split(source.text)
            if file:
                return file, line
    return str(look.path), 0


def _split(text: str) -> tuple[str, int]:
    match = _PLACE.match(text)
    return (match["file"], int(match["line"] or 0)) if match else ("", 0)


def _load(path: Path, environ: Mapping[str, str]) -> ServerConfig:
    from baoha.config import build, read_documents
    from baoha.errors import ConfigError
    from baoha.storage.registry import variables_of

    load = partial(build, environ=environ, variables_of=variables_of, read_secrets=False)
    try:
        documents = read_documents([path])
    except ConfigError as exc:
        raise CommandFailed(str(exc), verdict=Verdict.LOCAL) from exc
    try:
        return load(documents)
    except ConfigError as first:
        try:
            return load([_reduced(one) for one in documents])
        except ConfigError:
            raise CommandFailed(str(first), verdict=Verdict.LOCAL) from first


def _reduced(document: ConfigDocument) -> ConfigDocument:
    """Leave only what addresses are made of."""
    from baoha.config.documents import ConfigDocument as AnyDocument
    from baoha.sansio.formats.hcl import Block

    kept = tuple(item for item in document.block.items if item.key in _ADDRESS_BLOCKS)
    return AnyDocument(document.name, Block(kept, document.block.folded))
