"""
What a cluster to be measured looks like: a small TOML file.

Rules of this file: a description is data; whatever speaks the API can be described without new
code. An unknown key is an error.

Theory of operation. ``command`` and ``config`` are templates with ``$`` variables:

    $python, $bao       the interpreter that runs this, the real OpenBao
    $name, $folder      the node's name, and its own folder for data
    $config             its configuration file
    $shared             a folder that all nodes share
    $host, $api_port, $cluster_port
    $static_key         32 random bytes as base64, the same on all nodes
    $postgresql_url     where ``services`` names it
"""

from __future__ import annotations

import base64
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from string import Template

import tomli

FOLDER = Path(__file__).parent / "clusters"
SERVICES = ("postgresql",)
JOINS = ("", "raft")


class DescriptionError(ValueError):
    """A description file says something that nobody can do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """
    One cluster.

    Attributes:
        name: for tables.
        command: what starts a node, as templates.
        config: the node's configuration file, a template; ``config_file`` is its name.
        auto_unseal: nodes unseal themselves; else they are unsealed with one key share.
        join: how further nodes find the first one, where sharing a store does not do it.
        services: what runs beside the nodes.
        tenure_mark: what a node's log says once for every time that it becomes active.
    """

    name: str
    command: tuple[str, ...]
    config: str
    config_file: str
    nodes: int = 3
    auto_unseal: bool = False
    join: str = ""
    services: tuple[str, ...] = ()
    tenure_mark: str = ""

    def __post_init__(self) -> None:
        if self.join not in JOINS:
            raise DescriptionError(f"join must be one of {JOINS}, not {self.join!r}")
        for service in self.services:
            if service not in SERVICES:
                raise DescriptionError(f"unknown service {service!r}")
        if self.nodes < 1:
            raise DescriptionError("nodes must be at least 1")


def load_description(path: str | Path) -> Description:
    """
    Read a description file; a bare name means one of those in this package.

    Raises:
        DescriptionError: it is not a description.
        OSError: it cannot be read.
    """
    file = Path(path)
    if not file.suffix and not file.exists():
        file = FOLDER / f"{path}.toml"
    table = tomli.loads(file.read_text())
    known = {field.name for field in fields(Description)}
    unknown = sorted(set(table) - known)
    if unknown:
        raise DescriptionError(f"{file}: unknown keys: {', '.join(unknown)}")
    for key in ("command", "services"):
        if key in table:
            table[key] = tuple(table[key])
    try:
        return Description(**table)
    except TypeError as error:
        raise DescriptionError(f"{file}: {error}") from error


def program(name: str) -> str:
    """
    Return the path of a program of this environment, or else of the system.

    Raises:
        DescriptionError: there is none.
    """
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise DescriptionError(f"there is no program {name!r}")
    return found


def common_variables() -> dict[str, str]:
    """Return the variables that are the same for all nodes of a cluster."""
    return {
        "python": sys.executable,
        "bao": program("bao"),
        "static_key": base64.b64encode(os.urandom(32)).decode(),
    }


def fill(template: str, variables: Mapping[str, str]) -> str:
    """
    Put the variables in.

    Raises:
        DescriptionError: the template names one that there is not.
    """
    try:
        return Template(template).substitute(variables)
    except (KeyError, ValueError) as error:
        raise DescriptionError(f"template: {error}") from error
