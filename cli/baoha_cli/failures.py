"""
How a command fails: one exception tree, each with the words for the operator and a verdict.

Rule of this file: texts here are printed as they are. No token, key or request header enters them.

Source: texts of connection errors follow what `bao` 2.7.2 prints, because people search for
them.
"""

from __future__ import annotations

import enum

from baoha_cli.exits import Verdict


class ErrorKind(enum.StrEnum):
    """Where a request failed; the word goes into tables and JSON (`error.kind`)."""

    ADDRESS = "address"  # the address itself is wrong; nothing was tried
    DNS = "dns"  # the name does not resolve
    REFUSED = "refused"  # the host is up, the port is closed
    UNREACHABLE = "unreachable"  # no route, network down, or reset while connecting
    TIMEOUT = "timeout"  # no answer in time
    TLS = "tls"  # handshake or certificate
    PROTOCOL = "protocol"  # bytes came, but not a proper HTTP answer
    REDIRECT = "redirect"  # a redirect that must not be followed
    HTTP = "http"  # an HTTP answer with an error status


_VERDICTS = {
    ErrorKind.ADDRESS: Verdict.USAGE,
    ErrorKind.DNS: Verdict.UNREACHABLE,
    ErrorKind.REFUSED: Verdict.UNREACHABLE,
    ErrorKind.UNREACHABLE: Verdict.UNREACHABLE,
    ErrorKind.TIMEOUT: Verdict.TIMEOUT,
    ErrorKind.TLS: Verdict.TLS,
    ErrorKind.PROTOCOL: Verdict.API,
    ErrorKind.REDIRECT: Verdict.API,
    ErrorKind.HTTP: Verdict.API,
}


class CommandFailed(Exception):
    """
    The command ends here, for a reason the operator should read.

    Args:
        message: what happened, for stderr.
        verdict: decides the exit code.
        hint: what to do about it; printed on a line of its own when not empty.
    """

    def __init__(self, message: str, *, verdict: Verdict = Verdict.NO, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.verdict = verdict
        self.hint = hint

    def prefixed(self, prefix: str) -> CommandFailed:
        """Say what was being done, as `bao` does ("Error stepping down: ..."); returns itself."""
        self.message = f"{prefix}: {self.message}"
        return self


class CurlPrinted(Exception):
    """The request was printed as a curl command instead of being sent."""


class UsageFailed(CommandFailed):
    """The command line or the environment is wrong. Nothing was sent."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, verdict=Verdict.USAGE, hint=hint)


class RequestFailed(CommandFailed):
    """
    A request got no usable HTTP answer.

    ``sent`` says whether the server may have seen the request: when it is False, nothing happened
    there, and another address may be tried.
    """

    def __init__(
        self,
        kind: ErrorKind,
        detail: str,
        *,
        method: str = "GET",
        url: str = "",
        sent: bool = False,
        hint: str = "",
    ) -> None:
        text = f'{method.capitalize()} "{url}": {detail}' if url else detail
        super().__init__(text, verdict=_VERDICTS[kind], hint=hint)
        self.kind = kind
        self.detail = detail
        self.url = url
        self.sent = sent


class ApiFailed(CommandFailed):
    """
    The server answered with an error status.

    Args:
        status: HTTP status code.
        errors: the server's list of errors, already safe to print; may be empty.
        raw: the body as text when there was no such list.
    """

    def __init__(
        self, status: int, errors: tuple[str, ...], *, method: str, url: str, raw: str = ""
    ) -> None:
        lines = ["Error making API request.", "", f"URL: {method} {url}"]
        if errors:
            lines += [f"Code: {status}. Errors:", "", *(f"* {error}" for error in errors)]
        else:
            lines += [f"Code: {status}. Raw Message:", "", raw]
        super().__init__("\n".join(lines), verdict=_api_verdict(status, errors))
        self.status = status
        self.errors = errors
        self.kind = ErrorKind.HTTP


def _api_verdict(status: int, errors: tuple[str, ...]) -> Verdict:
    if status in (401, 403):
        return Verdict.DENIED
    if status == 503 and any("sealed" in error for error in errors):
        return Verdict.SEALED
    return Verdict.API
