"""
``baoha server --dev``: one node in memory, initialised and unsealed, its root token printed.

Rule of this file: for trying out. It listens without TLS, and keeps nothing.

Source: ``bao server -dev`` (recorded): what it prints and sets up.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from baoha.config.load import load
from baoha.config.model import ServerConfig
from baoha.errors import ConfigError
from baoha.server.dev.bootstrap import DevNode, DevSecrets, furnish, initialize, unseal, wait_active
from baoha.server.process import run, say

DEFAULT_ADDRESS = "127.0.0.1:8200"


def run_dev(
    *,
    root_token: str = "",
    listen_address: str = DEFAULT_ADDRESS,
    token_file: Path | None = None,
    log_level: str = "info",
) -> int:
    """
    Run a development server until it ends, and return the exit code.

    Args:
        root_token: the root token to have; "" takes the one that init made.
        listen_address: "host:port".
        token_file: where the root token is stored for the command line; None stores it nowhere.

    Raises:
        ConfigError: the address cannot be used.
    """
    config = _config(listen_address, log_level)

    @asynccontextmanager
    async def when_started(addresses: list[str]) -> AsyncIterator[None]:
        node = DevNode(addresses[0])
        secrets = await initialize(node)
        await unseal(node, secrets)
        await wait_active([node])
        secrets = await furnish(node, secrets, root_token=root_token)
        if token_file is not None:
            write_secret(token_file, secrets.root_token)
        say(_welcome(addresses[0], secrets, stored=token_file is not None))
        yield

    return run(config, when_started=when_started)


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner can read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, 0o600)  # it may have existed with other permissions
        file.write(text)


def toml_text(value: str) -> str:
    """Return a TOML string that means exactly this text."""
    escaped = "".join(
        char if char.isprintable() and char not in '"\\' else f"\\U{ord(char):08x}"
        for char in value
    )
    return f'"{escaped}"'


def _config(listen_address: str, log_level: str) -> ServerConfig:
    host, colon, port = listen_address.rpartition(":")
    if not colon or not host or not port.isdigit():
        raise ConfigError(f'"{listen_address}" is not an address such as {DEFAULT_ADDRESS}')
    shown_host = "127.0.0.1" if host in ("0.0.0.0", "[::]") else host  # noqa: S104 - compared
    text = "\n".join(
        [
            f"api_addr = {toml_text(f'http://{shown_host}:{port}')}",
            f"cluster_addr = {toml_text(f'https://{shown_host}:{int(port) + 1}')}",
            f"log_level = {toml_text(log_level)}",
            "[storage.inmem]",
            "[[listener.tcp]]",
            f"address = {toml_text(listen_address)}",
            "tls_disable = true",
            "",
        ]
    )
    with tempfile.TemporaryDirectory(prefix="baoha-dev-") as folder:
        file = Path(folder) / "dev.toml"
        file.write_text(text)
        return load([file], {})


def _welcome(address: str, secrets: DevSecrets, *, stored: bool) -> str:
    known = (
        "The root token is already\nauthenticated to the CLI, so you can immediately begin using "
        "baoha."
        if stored
        else "Log in\nwith the root token below."
    )
    return f"""
WARNING! dev mode is enabled! In this mode, baoha runs entirely in-memory
and starts unsealed with a single unseal key. {known}

You may need to set the following environment variables:

    $ export BAO_ADDR='http://{address}'

The unseal key and root token are displayed below in case you want to
seal/unseal the Vault or re-authenticate.

Unseal Key: {secrets.unseal_key}
Root Token: {secrets.root_token}

Development mode should NOT be used in production installations!
"""
