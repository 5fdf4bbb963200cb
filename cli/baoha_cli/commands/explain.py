"""
`baoha explain`: exit codes, conditions and diagnostic codes, without a network.
"""

from __future__ import annotations

from typing import Annotated

import typer

from baoha.diagnostics.catalogue import CODES
from baoha.diagnostics.code import SEVERITY_WORDS, Code
from baoha_cli.exits import TABLE, Profile, Verdict, exit_code
from baoha_cli.output.documents import Document
from baoha_cli.output.gotext import plain_table
from baoha_cli.shell.command import command, new_group
from baoha_cli.shell.context import Cli
from baoha_cli.survey.conditions import MEANINGS

app = new_group("explain", "Explain a diagnostic code, the exit codes or the conditions.")


@command(app, "explain")
def explain(
    cli: Cli,
    *,
    topic: Annotated[
        str | None,
        typer.Argument(metavar="[TOPIC]", help="A code such as BH-304, exit-codes or conditions."),
    ] = None,
) -> Verdict:
    """Explain a diagnostic code, the exit codes or the conditions."""
    if topic is None:
        cli.emit(_catalogue())
    elif topic == "exit-codes":
        cli.emit(_exit_codes())
    elif topic == "conditions":
        cli.emit(_conditions())
    else:
        cli.emit(_code(topic))
    return Verdict.OK


def _exit_codes() -> Document:
    header = ("MEANING", "bao", "bao status", "detailed", "nagios")
    rows = [
        (verdict.value, *(str(exit_code(verdict, profile)) for profile in Profile))
        for verdict in TABLE
    ]
    data = {
        "schema": "baoha.exit-codes/v1",
        "verdicts": [
            {
                "name": verdict.name.lower(),
                "meaning": verdict.value,
                **{profile.value: exit_code(verdict, profile) for profile in Profile},
            }
            for verdict in TABLE
        ],
    }
    return Document(data, lambda _: plain_table([header, *rows], gap=2), rows=[header, *rows])


def _conditions() -> Document:
    rows = []
    for name, (value, meaning) in MEANINGS.items():
        shape = {"no": name, "may": f"{name}[=…]", "must": f"{name}=…"}[value]
        rows.append((shape, meaning))
    data = {
        "schema": "baoha.conditions/v1",
        "conditions": {name: meaning for name, (_, meaning) in MEANINGS.items()},
    }
    table = plain_table([("CONDITION", "MEANING"), *rows], gap=2)
    return Document(data, lambda _: table, rows=rows, names=list(MEANINGS))


def _code(topic: str) -> Document:
    from baoha_cli.manual.codes import explanation_document

    return explanation_document(topic)


def _catalogue() -> Document:
    listed = list(CODES.values())
    rows = [(item.id, SEVERITY_WORDS[item.severity], item.title) for item in listed]
    data = {"schema": "baoha.catalogue/v1", "codes": [_data(item) for item in listed]}
    table = plain_table([("CODE", "SEVERITY", "FINDING"), *rows], gap=2)
    return Document(data, lambda _: table, rows=rows, names=[item.id for item in listed])


def _data(item: Code) -> dict[str, object]:
    return {
        "code": item.id,
        "severity": item.severity.value,
        "title": item.title,
        "why": item.why,
        "fix": item.fix,
    }
