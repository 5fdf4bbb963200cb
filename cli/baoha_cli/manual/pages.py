"""
Manual pages in roff, from the command tree.

Rule of this file: it is pure, and what it writes is ASCII: other characters become roff escapes.

Source: man(7), groff_char(7).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from baoha import __version__
from baoha_cli.manual.tree import PROGRAM, SECTIONS, CommandNode, Parameter

_ENVIRONMENT: Final = (
    ("BAO_ADDR", "Address of the server, or a comma list of addresses."),
    ("BAO_TOKEN", "The token; without it the file ~/.vault-token is read."),
    ("BAO_CACERT, BAO_CAPATH", "Trusted CA certificates: a file, a directory."),
    ("BAO_CLIENT_CERT, BAO_CLIENT_KEY", "Client certificate and its key."),
    ("BAO_TLS_SERVER_NAME, BAO_SKIP_VERIFY", "How the server's certificate is verified."),
    ("BAO_NAMESPACE", "Namespace of every request."),
    ("BAO_CLIENT_TIMEOUT, BAO_MAX_RETRIES", "Limit of a request, and how often to try again."),
    ("BAO_FORMAT", "Format of the output."),
    ("NO_COLOR", "No colour, whatever is said elsewhere but by --color."),
)
_EXIT_STATUS: Final = (
    "0 is success, 64 a wrong command line, 70 a bug, 130 and 143 an interrupt. 'baoha explain "
    "exit-codes' prints what every other code means; --exit-codes chooses the set."
)


def page_name(node: CommandNode) -> str:
    """Return the name of a command's page, without its section."""
    return "-".join((PROGRAM, *node.path))


def page(node: CommandNode) -> str:
    """Return the page of a command."""
    return "\n".join(_lines(node)) + "\n"


def _lines(node: CommandNode) -> Iterator[str]:
    name = page_name(node)
    yield f'.TH "{_text(name.upper())}" "1" "" "{PROGRAM} {__version__}" "{PROGRAM} manual"'
    yield from (".SH NAME", f"{_text(name)} \\- {_text(node.summary.rstrip('.'))}")
    yield from (".SH SYNOPSIS", f".B {_text(node.words)}")
    yield _text(node.usage.removeprefix(node.words).strip())
    yield from (".SH DESCRIPTION", *_paragraphs(node.help))
    if node.children:
        yield ".SH COMMANDS"
        for child in node.children:
            yield from (".TP", f".B {_text(child.path[-1])}", _text(child.summary))
    for section in SECTIONS:
        params = [param for param in node.parameters if param.section == section]
        if params:
            yield f".SH {section.upper()}"
        for param in params:
            yield from (".TP", _tag(param), _text(param.help) or "\\&")
    yield from (".SH EXIT STATUS", _text(_EXIT_STATUS))
    if node.epilog:
        yield from (".SH NOTES", *_paragraphs(node.epilog))
    if not node.path:
        yield ".SH ENVIRONMENT"
        yield _text("BAOHA_ and VAULT_ work in front of these names too; BAOHA_ wins over BAO_.")
        for names, text in _ENVIRONMENT:
            yield from (".TP", f".B {_text(names)}", _text(text))
    yield from (".SH SEE ALSO", *_see_also(node))


def _see_also(node: CommandNode) -> Iterator[str]:
    names = [page_name(child) for child in node.children]
    if node.path:
        names.insert(0, "-".join((PROGRAM, *node.path[:-1])))
    for index, name in enumerate(names):
        comma = "," if index < len(names) - 1 else ""
        yield f".BR {_text(name)} (1){comma}"


def _tag(param: Parameter) -> str:
    if not param.names:
        return f".I {_text(param.metavar)}"
    names = ", ".join(f"\\fB{_text(name)}\\fR" for name in param.names)
    return f"{names} \\fI{_text(param.metavar)}\\fR" if param.takes_value else names


def _paragraphs(text: str) -> Iterator[str]:
    for index, paragraph in enumerate(re.split(r"\n\s*\n", text)):
        if index:
            yield ".PP"
        yield _text(" ".join(paragraph.split()))


def _text(text: str) -> str:
    """Return text that roff prints as it is."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    escaped = escaped.replace("~", "\\(ti").replace("^", "\\(ha").replace("`", "\\(ga")
    escaped = "".join(char if char.isascii() else f"\\[u{ord(char):04X}]" for char in escaped)
    escaped = escaped.replace("'", "\\(aq")
    return f"\\&{escaped}" if escaped.startswith(".") else escaped
