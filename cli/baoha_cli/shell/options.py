"""
The options every command shares, declared once.

Rule of this file: a field of `Shared` is an option of every command; there is no second list.
`bao` takes its flags after the command, so they sit on every leaf and not on the program.

Source: `bao status -h` for names and words; docs/spec/cluster-cli.md section 2.3 for ours.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, fields
from typing import Annotated, Any, Final, get_type_hints

import typer

RETRIES_MAX: Final = 100
HTTP_SECTION: Final = frozenset(
    {
        "address",
        "ca_cert",
        "ca_path",
        "client_cert",
        "client_key",
        "tls_server_name",
        "tls_skip_verify",
        "namespace",
        "header",
        "token_file",
        "timeout",
        "deadline",
        "retry",
        "proxy",
        "follow_redirects",
        "disable_redirects",
        "output_curl_string",
    }
)
OUTPUT_SECTION: Final = frozenset(
    {
        "output",
        "field",
        "color",
        "quiet",
        "verbose",
        "debug",
        "exit_codes",
        "exit_zero",
        "yes",
        "non_interactive",
    }
)


@dataclass(frozen=True)
class Shared:
    """The values of the shared options, as given on the command line (None: not given)."""

    address: Annotated[
        list[str] | None,
        typer.Option(
            "--address",
            "--addr",
            metavar="URL",
            help="API address; repeat it or give a comma list for several nodes. [env: BAO_ADDR; "
            "default: https://127.0.0.1:8200]",
        ),
    ] = None
    ca_cert: Annotated[
        str | None,
        typer.Option(
            "--ca-cert",
            "--ca",
            metavar="FILE",
            help="PEM file of trusted CA certificates. [env: BAO_CACERT]",
        ),
    ] = None
    ca_path: Annotated[
        str | None,
        typer.Option("--ca-path", metavar="DIR", help="Directory of such files. [env: BAO_CAPATH]"),
    ] = None
    client_cert: Annotated[
        str | None,
        typer.Option(
            "--client-cert", metavar="FILE", help="Client certificate. [env: BAO_CLIENT_CERT]"
        ),
    ] = None
    client_key: Annotated[
        str | None,
        typer.Option("--client-key", metavar="FILE", help="Its key. [env: BAO_CLIENT_KEY]"),
    ] = None
    tls_server_name: Annotated[
        str | None,
        typer.Option(
            "--tls-server-name",
            metavar="NAME",
            help="Name to ask for and to verify. [env: BAO_TLS_SERVER_NAME]",
        ),
    ] = None
    tls_skip_verify: Annotated[
        bool,
        typer.Option(
            "--tls-skip-verify",
            help="Accept any certificate: whoever is in between can read all. "
            "[env: BAO_SKIP_VERIFY]",
        ),
    ] = False
    namespace: Annotated[
        str | None,
        typer.Option("--namespace", "--ns", metavar="NAME", help="Namespace. [env: BAO_NAMESPACE]"),
    ] = None
    header: Annotated[
        list[str] | None,
        typer.Option("--header", metavar="KEY=VALUE", help="Extra request header; repeatable."),
    ] = None
    token_file: Annotated[
        str | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help="File with the token, - for standard input. [env: BAO_TOKEN; default: "
            "~/.vault-token]",
        ),
    ] = None
    timeout: Annotated[
        str | None,
        typer.Option(
            "--timeout", metavar="TIME", help="Limit of one request. [env: BAO_CLIENT_TIMEOUT]"
        ),
    ] = None
    deadline: Annotated[
        str | None,
        typer.Option("--deadline", metavar="TIME", help="Limit of the whole command."),
    ] = None
    retry: Annotated[
        int | None,
        typer.Option(
            "--retry",
            min=0,
            max=RETRIES_MAX,
            metavar="N",
            help="Try again N times when no node could be reached; nothing that was sent is ever "
            "sent again. [env: BAO_MAX_RETRIES; default: 2, for status and diagnostics 0]",
        ),
    ] = None
    proxy: Annotated[
        str | None,
        typer.Option(
            "--proxy",
            metavar="URL",
            help="Tunnel through this HTTP proxy; HTTP_PROXY is ignored. [env: BAO_PROXY_ADDR]",
        ),
    ] = None
    follow_redirects: Annotated[
        bool,
        typer.Option(
            "--follow-redirects",
            help="Follow redirects, to addresses given with --address only.",
        ),
    ] = False
    disable_redirects: Annotated[
        bool, typer.Option("--disable-redirects", help="Never follow: the default here.")
    ] = False
    output_curl_string: Annotated[
        bool,
        typer.Option(
            "--output-curl-string",
            "--print-curl",
            help="Print the first request as a curl command (token masked) and send nothing.",
        ),
    ] = False
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "--format",
            "-o",
            metavar="FORMAT",
            help="table, wide, json, yaml, ndjson, tsv, name or field=PATH. [env: BAO_FORMAT; "
            "default: table]",
        ),
    ] = None
    field: Annotated[
        str | None,
        typer.Option("--field", metavar="NAME", help="Print only this field, without a newline."),
    ] = None
    color: Annotated[
        str,
        typer.Option("--color", metavar="WHEN", help="auto, always or never. [env: NO_COLOR]"),
    ] = "auto"
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Exit code and errors only.")] = False
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say what is asked, and which setting won.")
    ] = False
    debug: Annotated[bool, typer.Option("--debug", help="Show a bug's traceback.")] = False
    exit_codes: Annotated[
        str | None,
        typer.Option(
            "--exit-codes",
            metavar="PROFILE",
            help="bao, detailed or nagios; see 'baoha explain exit-codes'.",
        ),
    ] = None
    exit_zero: Annotated[bool, typer.Option("--exit-zero", help="Exit 0 whatever is found.")] = (
        False
    )
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Answer yes to every question.")] = False
    non_interactive: Annotated[bool, typer.Option("--non-interactive", help="Never ask.")] = False

    @classmethod
    def take(cls, values: dict[str, Any]) -> Shared:
        """Take the shared values out of a command's arguments, leaving its own."""
        taken = {item.name: values.pop(item.name) for item in fields(cls) if item.name in values}
        return cls(**taken)


def _parameters() -> tuple[inspect.Parameter, ...]:
    hints = get_type_hints(Shared, include_extras=True)
    return tuple(
        inspect.Parameter(
            item.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=item.default,
            annotation=hints[item.name],
        )
        for item in fields(Shared)
    )


PARAMETERS: Final = _parameters()


def shared_names() -> tuple[frozenset[str], frozenset[str]]:
    """Return the spellings of the shared options: those with a value, and the flags."""
    valued: set[str] = set()
    flags: set[str] = set()
    for parameter in PARAMETERS:
        kind, declaration = parameter.annotation.__args__[0], parameter.annotation.__metadata__[0]
        # Inside Annotated, typer keeps the first spelling in `default`.
        names = {str(declaration.default), *(declaration.param_decls or ())}
        (flags if kind is bool else valued).update(names)
    return frozenset(valued), frozenset(flags)
