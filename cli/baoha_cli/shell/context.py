"""
What a command is handed: settings, output, and one way to ask a server.

Rules of this file. Settings are read when they are first needed, so that `explain` works with a
broken environment. The token goes to addresses that were given, and to no others. Only addresses
that certainly did not see a request are followed by the next one in the list.

Theory of operation. `Cli.call` is for commands that talk to the cluster through any node (`kv`,
`token`, ...): it tries the given addresses in order until one can be reached. Commands that look at
nodes one by one use `Cli.client()` with `Cli.endpoints`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from baoha_cli.client.address import (
    DEFAULT_ADDRESS,
    Endpoint,
    labels,
    parse_address,
    parse_addresses,
)
from baoha_cli.client.token import Token
from baoha_cli.client.transport import ConnectionSettings, TLSOptions
from baoha_cli.exits import Profile, Verdict
from baoha_cli.failures import (
    CommandFailed,
    CurlPrinted,
    ErrorKind,
    RequestFailed,
    UsageFailed,
)
from baoha_cli.output.documents import Document, Format, Output, parse_format
from baoha_cli.shell.environment import (
    EnvironmentSetting,
    duration_s,
    find_token,
    lookup,
    token_file_is_open,
    token_path,
    truth,
)
from baoha_cli.shell.options import RETRIES_MAX, Shared
from baoha_cli.text import one_line

if TYPE_CHECKING:
    from baoha_cli.client.answer import Answer
    from baoha_cli.client.client import Client

HOPS_MAX: Final = 10
_RETRY_PAUSE_S: Final = 0.25
_RETRY_PAUSE_MAX_S: Final = 2.0
# What may be over in a second; a wrong certificate or address stays wrong.
_PASSING: Final = frozenset(
    {ErrorKind.REFUSED, ErrorKind.UNREACHABLE, ErrorKind.TIMEOUT, ErrorKind.DNS}
)
_PROFILES: Final = {"bao": Profile.BAO, "detailed": Profile.DETAILED, "nagios": Profile.NAGIOS}


class Cli:
    """
    One run of one command.

    Args:
        shared: the shared options as given.
        environ: the environment.
        profile: exit codes unless ``--exit-codes`` says otherwise.
        timeout_s: limit of a request unless flag or environment say otherwise.
        retries: how often to try again unless flag or environment say otherwise; with 0 the
            environment has no say, since a retry would hide what the command looks for.
        reports: further values of ``--output`` that this command knows.

    Raises:
        UsageFailed: an option's value cannot be read.
    """

    def __init__(
        self,
        shared: Shared,
        environ: Mapping[str, str],
        *,
        profile: Profile = Profile.BAO,
        timeout_s: float = 60.0,
        retries: int = 0,
        reports: Collection[str] = (),
    ) -> None:
        self.shared = shared
        self.environ = environ
        self._timeout_s = timeout_s
        self._retries = retries
        given = (shared.output or "").strip().lower()
        self.report = given if given in reports else ""
        self.profile = self._chosen_profile(profile)
        self.out = self._open_output()

    # --- settings ---------------------------------------------------------------------------

    @cached_property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The addresses given, in order; at least one."""
        given = self.shared.address or []
        if not given:
            setting = lookup(self.environ, "ADDR")
            given = [setting.value if setting else DEFAULT_ADDRESS]
            self.verbose(f"address from {setting.name if setting else 'the default'}")
        return parse_addresses(given) or (parse_address(DEFAULT_ADDRESS),)

    @cached_property
    def labels(self) -> dict[Endpoint, str]:
        """Short unique names of the addresses given."""
        return labels(self.endpoints)

    @cached_property
    def token(self) -> Token | None:
        """
        The client token, or None.

        Raises:
            CommandFailed: a token file cannot be read.
        """
        token = find_token(self.environ, stdin=sys.stdin, flag=self.shared.token_file)
        if token is None:
            return None
        self.out.hide(token.value)
        path = token_path(self.environ)
        if path is not None and token.source == str(path) and token_file_is_open(path):
            self.out.note(f"warning: others on this machine can read {path}: chmod 600 {path}")
        self.verbose(f"token from {token.source}")
        return token

    @cached_property
    def transport(self) -> ConnectionSettings:
        """
        How requests travel, from flags and environment.

        Raises:
            UsageFailed: a value cannot be read.
        """
        proxy = self.shared.proxy or self._env_text("PROXY_ADDR", "HTTP_PROXY")
        return ConnectionSettings(
            timeout_s=self.timeout_s,
            tls=self._tls_options(),
            proxy=parse_address(proxy) if proxy else None,
            namespace=self._flag_or_env(self.shared.namespace, "NAMESPACE"),
            headers=_headers(self.shared.header or []),
        )

    @cached_property
    def timeout_s(self) -> float:
        """Limit of one request, in seconds."""
        if self.shared.timeout is not None:
            value = duration_s(self.shared.timeout, what="--timeout")
        else:
            setting = lookup(self.environ, "CLIENT_TIMEOUT")
            if setting is None:
                return self._timeout_s
            value = duration_s(setting.value, what=setting.name)
        if value <= 0:
            raise UsageFailed("the time-out of a request must be more than 0")
        return value

    @cached_property
    def retries(self) -> int:
        """How often to try again when no node could be reached."""
        if self.shared.retry is not None:
            return self.shared.retry
        setting = lookup(self.environ, "MAX_RETRIES") if self._retries else None
        if setting is None:
            return self._retries
        text = setting.value.strip()
        if not (text.isascii() and text.isdecimal() and len(text) < 4):
            raise UsageFailed(f"{setting.name}: {text[:40]!a} is not a number from 0 to 999")
        return min(int(text), RETRIES_MAX)

    @cached_property
    def deadline_s(self) -> float | None:
        """Limit of the whole command, in seconds, or None."""
        if self.shared.deadline is None:
            return None
        return duration_s(self.shared.deadline, what="--deadline")

    @property
    def is_interactive(self) -> bool:
        """Whether a question may be asked: a terminal, and nobody said not to."""
        if self.shared.non_interactive:
            return False
        try:
            return sys.stdin is not None and sys.stdin.isatty()
        except ValueError:
            return False

    # --- words ------------------------------------------------------------------------------

    def emit(self, document: Document) -> None:
        """Print a document; see Output.emit."""
        self.out.emit(document)

    def verbose(self, text: str) -> None:
        """Print a line on stderr when ``--verbose`` is on."""
        if self.shared.verbose:
            self.out.note(text)

    def confirm(self, question: str) -> None:
        """
        Ask a yes/no question, unless ``--yes`` was given.

        Raises:
            UsageFailed: there is nobody to ask.
            CommandFailed: the answer was no.
        """
        if self.shared.yes:
            return
        if not self.is_interactive:
            raise UsageFailed(f"{question} Not on a terminal: give --yes to go on.")
        if self.ask(f"{question} [y/N] ").strip().lower() not in ("y", "yes"):
            raise CommandFailed("nothing was done")

    def ask(self, prompt: str) -> str:
        """Ask for a line on the terminal."""
        self.out.error(prompt.rstrip())
        return sys.stdin.readline()

    # --- requests ---------------------------------------------------------------------------

    def client(self) -> Client:
        """Return a new client; the caller closes it (``async with``)."""
        from baoha_cli.client.client import Client

        return Client(self.transport)

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, object] | None = None,
        query: Sequence[tuple[str, str]] = (),
        headers: Sequence[tuple[str, str]] = (),
        with_token: bool = True,
        accept: Sequence[int] = (),
        is_preflight: bool = False,
    ) -> Answer:
        """
        Ask the cluster through the first given address that can be reached.

        Args:
            method: HTTP method.
            path: below "/v1/", without leading slash.
            body: JSON object.
            query: query pairs.
            headers: extra headers.
            with_token: send the client token.
            accept: statuses that are no error here, beside 2xx.
            is_preflight: a read that decides what the real request is; it is sent even when the
                real one is only to be printed as a curl command.

        Raises:
            ApiFailed: the server answered with an error.
            RequestFailed: nothing usable came back.
        """
        token = self.token if with_token else None
        data = None if body is None else json.dumps(body).encode("ascii", "replace")
        if self.shared.output_curl_string and not is_preflight:
            self._print_curl(method, path, data, query, headers, token)
        async with self.client() as client:
            for attempt in range(self.retries + 1):
                if attempt:
                    await _pause(attempt)
                for number, endpoint in enumerate(self.endpoints):
                    try:
                        answer = await client.request(
                            endpoint,
                            method,
                            f"/v1/{path}",
                            query=query,
                            body=data,
                            token=token,
                            headers=headers,
                        )
                    except RequestFailed as failure:
                        if failure.sent or self._is_last_try(attempt, number, failure.kind):
                            raise
                        self.verbose(f"{failure.message}: trying again")
                        continue
                    answer = await self._after_redirects(client, answer, data, token, headers)
                    return answer.checked(*accept).of_api()
        raise UsageFailed("no address was given")

    def _is_last_try(self, attempt: int, number: int, kind: ErrorKind) -> bool:
        if number < len(self.endpoints) - 1:
            return False
        return attempt == self.retries or kind not in _PASSING

    async def _after_redirects(
        self,
        client: Client,
        answer: Answer,
        data: bytes | None,
        token: Token | None,
        headers: Sequence[tuple[str, str]],
    ) -> Answer:
        """Follow redirects as far as they are allowed; see the module's rules."""
        seen = {answer.url}
        for _ in range(HOPS_MAX):
            location = answer.header("location")
            if answer.status not in (301, 302, 303, 307, 308) or not location:
                return answer
            endpoint, target = self._allowed_hop(answer, location)
            url = endpoint.origin + target
            if url in seen:
                raise self._refused_hop(answer, location, "it leads in a circle")
            seen.add(url)
            self.verbose(f"following the redirect to {endpoint.origin}")
            bare = Endpoint(endpoint.scheme, endpoint.host, endpoint.port)
            answer = await client.request(
                bare, answer.method, target, body=data, token=token, headers=headers, quoted=True
            )
        raise self._refused_hop(answer, answer.header("location"), f"more than {HOPS_MAX} hops")

    def _allowed_hop(self, answer: Answer, location: str) -> tuple[Endpoint, str]:
        if location.startswith("/") and not location.startswith("//"):
            endpoint, target = answer.endpoint, location
        else:
            try:
                endpoint = parse_address(location.partition("?")[0])
                parts = urlsplit(location)
            except (UsageFailed, ValueError):
                raise self._refused_hop(answer, location, "it is not a usable address") from None
            target = parts.path + (f"?{parts.query}" if parts.query else "")
        if not target.isascii() or any(ord(char) <= 32 for char in target):
            raise self._refused_hop(answer, location, "it is not a usable address")
        if answer.endpoint.scheme == "https" and endpoint.scheme == "http":
            raise self._refused_hop(answer, location, "redirect would cause protocol downgrade")
        if endpoint.origin.lower() not in {given.origin.lower() for given in self.endpoints}:
            raise self._refused_hop(
                answer,
                location,
                "not one of the addresses given, so it gets neither token nor data",
                hint=f"if you trust it: --address {endpoint.origin}",
            )
        if not self.shared.follow_redirects or self.shared.disable_redirects:
            raise self._refused_hop(
                answer, location, "redirects are not followed", hint="give --follow-redirects"
            )
        return endpoint, target

    def _refused_hop(
        self, answer: Answer, location: str, why: str, *, hint: str = ""
    ) -> RequestFailed:
        detail = f"redirected ({answer.status}) to {one_line(location)!r}: {why}"
        return RequestFailed(
            ErrorKind.REDIRECT, detail, method=answer.method, url=answer.url, sent=True, hint=hint
        )

    def _print_curl(
        self,
        method: str,
        path: str,
        data: bytes | None,
        query: Sequence[tuple[str, str]],
        headers: Sequence[tuple[str, str]],
        token: Token | None,
    ) -> None:
        from baoha_cli.client.curl import curl_command

        transport, sent = self.transport, [*headers]
        if transport.namespace:
            sent.append(("X-Vault-Namespace", transport.namespace))
        sent += transport.headers
        line = curl_command(
            self.endpoints[0], method, path, data, query, sent, has_token=token is not None
        )
        self.out.write(f"{line}\n")
        raise CurlPrinted

    # --- helpers of __init__ ----------------------------------------------------------------

    def _chosen_profile(self, default: Profile) -> Profile:
        name = self.shared.exit_codes
        if name is None:
            return default
        if name not in _PROFILES:
            raise UsageFailed(f"--exit-codes: {name[:40]!a} is not bao, detailed or nagios")
        if name == "bao" and default is Profile.STATUS:
            return Profile.STATUS
        return _PROFILES[name]

    def _open_output(self) -> Output:
        chosen, field = Format.TABLE, None
        if self.shared.output is not None and not self.report:
            chosen, field = parse_format(self.shared.output)
        elif not self.report and (setting := lookup(self.environ, "FORMAT")) is not None:
            chosen, field = parse_format(setting.value)
        return Output(
            stdout=sys.stdout,
            stderr=sys.stderr,
            chosen=chosen,
            field=field,
            bao_field=self.shared.field,
            color=self.shared.color,
            environ=self.environ,
            quiet=self.shared.quiet,
        )

    def _tls_options(self) -> TLSOptions:
        setting = lookup(self.environ, "SKIP_VERIFY")
        skip = self.shared.tls_skip_verify or (setting is not None and truth(setting))
        return TLSOptions(
            ca_cert=self._flag_or_env(self.shared.ca_cert, "CACERT"),
            ca_path=self._flag_or_env(self.shared.ca_path, "CAPATH"),
            client_cert=self._flag_or_env(self.shared.client_cert, "CLIENT_CERT"),
            client_key=self._flag_or_env(self.shared.client_key, "CLIENT_KEY"),
            server_name=self._flag_or_env(self.shared.tls_server_name, "TLS_SERVER_NAME"),
            skip_verify=skip,
        )

    def _flag_or_env(self, flag: str | None, *suffixes: str) -> str:
        return flag if flag is not None else self._env_text(*suffixes)

    def _env_text(self, *suffixes: str) -> str:
        setting: EnvironmentSetting | None = lookup(self.environ, *suffixes)
        if setting is None:
            return ""
        self.verbose(f"{suffixes[0].lower()} from {setting.name}")
        return setting.value


@contextmanager
def doing(what: str) -> Iterator[None]:
    """
    Put "Error WHAT: " in front of a failure inside the block, as `bao` does.

    Raises:
        CommandFailed: the one from inside, with longer words.
    """
    try:
        yield
    except UsageFailed:
        raise
    except CommandFailed as failure:
        raise failure.prefixed(f"Error {what}") from failure.__cause__


async def _pause(attempt: int) -> None:
    import trio

    await trio.sleep(min(_RETRY_PAUSE_S * 2 ** (attempt - 1), _RETRY_PAUSE_MAX_S))


def _headers(given: Sequence[str]) -> tuple[tuple[str, str], ...]:
    pairs = []
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise UsageFailed("--header needs KEY=VALUE")
        if name.lower().startswith("x-vault-"):
            raise UsageFailed("--header: names that start with X-Vault- are not allowed")
        pairs.append((name, value))
    return tuple(pairs)


def succeeded(holds: bool) -> Verdict:
    """Return OK or NO."""
    return Verdict.OK if holds else Verdict.NO
