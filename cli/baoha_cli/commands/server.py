"""
`baoha server`: run a node, or check its configuration.

Rule of this file: it parses options and calls `baoha.server`; how a server runs is not known here.

Source: `bao server -h` for names; docs/spec/cluster-cli.md section 3.3 for ours.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from baoha.diagnostics.code import Severity
from baoha_cli.exits import Verdict
from baoha_cli.failures import CommandFailed, UsageFailed
from baoha_cli.interrupts import begin
from baoha_cli.output.documents import Document
from baoha_cli.output.gotext import plain_table
from baoha_cli.shell.command import ExitNow, command, new_group
from baoha_cli.shell.context import Cli
from baoha_cli.shell.environment import lookup, token_path

if TYPE_CHECKING:
    from baoha.config.model import ServerConfig
    from baoha.diagnostics.code import Finding

app = new_group("server", "Run a node.")

ConfigPaths = Annotated[
    list[str] | None,
    typer.Option(
        "--config",
        metavar="PATH",
        help="Configuration file (TOML, HCL, JSON) or directory; repeatable, later ones win. "
        "[env: BAO_CONFIG_PATH]",
    ),
]
CheckConfig = Annotated[
    bool, typer.Option("--check-config", help="Check the configuration and exit.")
]
PrintConfig = Annotated[
    bool,
    typer.Option(
        "--print-effective-config", help="Print every setting and where it came from, and exit."
    ),
]
Strict = Annotated[
    bool, typer.Option("--strict-addresses", help="Refuse an address that is only warned about.")
]
LogLevel = Annotated[
    str | None,
    typer.Option("--log-level", metavar="LEVEL", help="trace, debug, info, warn or error."),
]
Dev = Annotated[bool, typer.Option("--dev", help="One node in memory, initialised and unsealed.")]
RootToken = Annotated[
    str | None, typer.Option("--dev-root-token-id", metavar="TOKEN", help="Root token to have.")
]
ListenAddress = Annotated[
    str | None,
    typer.Option("--dev-listen-address", metavar="ADDR", help="Default: 127.0.0.1:8200."),
]
NoStore = Annotated[bool, typer.Option("--dev-no-store-token", help="Do not keep the root token.")]
DevHA = Annotated[
    int | None, typer.Option("--dev-ha", metavar="N", help="A cluster of N processes on loopback.")
]
DevHADir = Annotated[
    str | None, typer.Option("--dev-ha-dir", metavar="DIR", help="Keep the cluster here.")
]
DevHAPort = Annotated[
    int, typer.Option("--dev-ha-port", metavar="PORT", help="Of the first node; 0 takes free ones.")
]
DevHALogs = Annotated[bool, typer.Option("--dev-ha-logs", help="Print the nodes' logs.")]


@command(app, "server")
def server(
    cli: Cli,
    *,
    config: ConfigPaths = None,
    check_config: CheckConfig = False,
    print_effective_config: PrintConfig = False,
    strict_addresses: Strict = False,
    log_level: LogLevel = None,
    dev: Dev = False,
    dev_root_token_id: RootToken = None,
    dev_listen_address: ListenAddress = None,
    dev_no_store_token: NoStore = False,
    dev_ha: DevHA = None,
    dev_ha_dir: DevHADir = None,
    dev_ha_port: DevHAPort = 8200,
    dev_ha_logs: DevHALogs = False,
) -> Verdict:
    """Run a node."""
    from baoha.errors import ConfigError

    _refuse_mixtures(dev=dev, dev_ha=dev_ha, config=config)
    _check_level(log_level)
    level = log_level or _env(cli, "LOG_LEVEL") or "info"
    root_token = dev_root_token_id or _env(cli, "DEV_ROOT_TOKEN_ID") or ""
    try:
        if dev:
            keep = None if dev_no_store_token else token_path(cli.environ)
            address = dev_listen_address or _env(cli, "DEV_LISTEN_ADDRESS")
            raise ExitNow(_run_dev(address, root_token, keep, level))
        if dev_ha is not None:
            from baoha.server.dev.cluster import NODES_MAX, run_dev_ha

            begin()
            if not 1 <= dev_ha <= NODES_MAX:
                raise UsageFailed(f"--dev-ha takes 1 to {NODES_MAX} nodes, got {dev_ha}")
            code = run_dev_ha(
                dev_ha,
                folder=Path(dev_ha_dir) if dev_ha_dir else None,
                port=dev_ha_port,
                root_token=root_token,
                show_logs=dev_ha_logs,
                log_level=level,
            )
            raise ExitNow(code)
        paths = [Path(text) for text in config or _config_from_environment(cli)]
        if check_config or print_effective_config:
            return _examine(cli, paths, effective=print_effective_config, strict=strict_addresses)
        raise ExitNow(_serve(cli, paths, log_level=log_level, strict=strict_addresses))
    except ConfigError as error:
        raise CommandFailed(str(error), verdict=Verdict.LOCAL) from error


def _run_dev(address: str | None, root_token: str, keep: Path | None, level: str) -> int:
    from baoha.server.dev.single import DEFAULT_ADDRESS, run_dev

    begin()
    return run_dev(
        root_token=root_token,
        listen_address=address or DEFAULT_ADDRESS,
        token_file=keep,
        log_level=level,
    )


def _refuse_mixtures(*, dev: bool, dev_ha: int | None, config: list[str] | None) -> None:
    if dev and dev_ha is not None:
        raise UsageFailed("--dev and --dev-ha do not go together")
    if config and (dev or dev_ha is not None):
        raise UsageFailed("--config does not go together with --dev or --dev-ha")


def _check_level(log_level: str | None) -> None:
    from baoha.errors import ConfigError
    from baoha.server.logs import LEVELS, parse_level

    try:
        parse_level(log_level or "")
    except ConfigError as error:
        raise UsageFailed(str(error), hint=f"--log-level takes {', '.join(LEVELS)}") from error


def _config_from_environment(cli: Cli) -> list[str]:
    setting = lookup(cli.environ, "CONFIG_PATH")
    if setting is None:
        raise UsageFailed("Must specify at least one config path using --config")
    return [setting.value]


def _env(cli: Cli, suffix: str) -> str | None:
    setting = lookup(cli.environ, suffix)
    return setting.value if setting is not None else None


def _serve(cli: Cli, paths: list[Path], *, log_level: str | None, strict: bool) -> int:
    from dataclasses import replace

    from baoha.config.load import load
    from baoha.server.process import run
    from baoha.storage.registry import variables_of

    begin()

    def read() -> ServerConfig:
        loaded = load(paths, cli.environ, variables_of=variables_of)
        return replace(loaded, log_level=log_level) if log_level else loaded

    loaded = read()
    if strict:
        _refuse(_judged(loaded), strict=True)
    return run(loaded, load_again=read)


def _examine(cli: Cli, paths: list[Path], *, effective: bool, strict: bool) -> Verdict:
    """Check a configuration without starting anything or reading its keys."""
    from baoha.config.effective import effective as effective_rows
    from baoha.config.load import load
    from baoha.server.stores import check_stores
    from baoha.storage.registry import secrets_of, variables_of

    loaded = load(paths, cli.environ, variables_of=variables_of, read_secrets=False)
    check_stores(loaded)
    findings = _judged(loaded)
    rows = effective_rows(loaded, secrets_of) if effective else []
    data = {
        "schema": "baoha.config/v1",
        "settings": [{"key": key, "value": value, "source": source} for key, value, source in rows],
        "findings": [
            {
                "code": item.code.id,
                "severity": item.severity.value,
                "text": item.text,
                "fix": item.fix,
            }
            for item in findings
        ],
    }
    lines = [("KEY", "VALUE", "FROM"), *rows]

    def table(_: bool) -> str:
        shown = [plain_table(lines, gap=2)] if rows else []
        return "\n".join([*shown, "the configuration can be used"])

    for item in findings:
        cli.out.note(f"{item.severity.upper()} {item}")
    _refuse(findings, strict=strict)
    cli.emit(Document(data, table, rows=lines, names=[key for key, _, _ in rows]))
    return Verdict.OK


def _judged(loaded: ServerConfig) -> list[Finding]:
    from baoha.server.stores import judge_addresses

    return judge_addresses(loaded)


def _refuse(findings: list[Finding], *, strict: bool) -> None:
    """End the command when an address is wrong; with ``strict`` also when it is only odd."""
    refused = {Severity.ERROR, Severity.WARNING} if strict else {Severity.ERROR}
    bad = [item for item in findings if item.severity in refused]
    if bad:
        text = "\n".join(f"  {item}" for item in bad)
        raise CommandFailed(f"the addresses cannot be used:\n{text}", verdict=Verdict.LOCAL)
