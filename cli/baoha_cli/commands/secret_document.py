"""
A secret as the API answers it: JSON document and table, as `bao` prints them.

Rule of this file: it is pure. The JSON form is the server's document with `bao`'s fields, so that
scripts made for `bao` read it; baoha adds nothing to it.

Source: `bao` 2.7.2 run beside this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from baoha_cli.client.answer import Answer, as_int, as_list, as_mapping, as_text
from baoha_cli.output.documents import Document
from baoha_cli.output.gotext import (
    cell_text,
    dashed_table,
    duration_text,
    key_value_table,
    quoted_list,
)
from baoha_cli.shell.context import Cli
from baoha_cli.text import printable

_DURATION_FIELDS: Final = frozenset(
    {"ttl", "creation_ttl", "explicit_max_ttl", "period", "default_lease_ttl", "max_lease_ttl"}
)
_SHOWN_FIELDS: Final = (
    ("request_id", ""),
    ("lease_id", ""),
    ("lease_duration", 0),
    ("renewable", False),
    ("data", None),
    ("warnings", None),
)
_AUTH_FIELDS: Final[tuple[tuple[str, object], ...]] = (
    ("client_token", ""),
    ("accessor", ""),
    ("policies", None),
    ("token_policies", None),
    ("identity_policies", None),
    ("metadata", None),
    ("orphan", False),
    ("entity_id", ""),
    ("lease_duration", 0),
    ("renewable", False),
    ("mfa_requirement", None),
)


def secret_data(body: Mapping[str, object]) -> dict[str, object]:
    """Return the JSON form of an answer's body."""
    data: dict[str, Any] = {name: body.get(name, default) for name, default in _SHOWN_FIELDS}
    auth = as_mapping(body.get("auth"))
    if auth:
        data["auth"] = {name: auth.get(name, default) for name, default in _AUTH_FIELDS}
        data["auth"]["metadata"] = auth.get("metadata") or None
    if body.get("wrap_info"):
        data["wrap_info"] = body["wrap_info"]
    return data


def secret_fields(body: Mapping[str, object]) -> dict[str, object]:
    """Return what `-field` finds: the data, and the token's or wrapping token's parts."""
    fields: dict[str, object] = dict(as_mapping(body.get("data")))
    auth = as_mapping(body.get("auth"))
    if auth:
        fields.update(_auth_fields(auth))
    wrap = as_mapping(body.get("wrap_info"))
    if wrap:
        fields.update(_wrap_fields(wrap))
    return fields


def secret_rows(body: Mapping[str, object]) -> list[tuple[str, str]]:
    """Return the rows of the table: lease, wrapping, token, then the data by key."""
    rows: list[tuple[str, str]] = []
    duration_s = as_int(body.get("lease_duration")) or 0
    if duration_s > 0:
        if body.get("lease_id"):
            rows.append(("lease_id", cell_text(body["lease_id"])))
            rows.append(("lease_duration", duration_text(duration_s)))
            rows.append(("lease_renewable", cell_text(bool(body.get("renewable")))))
        else:
            rows.append(("refresh_interval", duration_text(duration_s)))
    wrap = as_mapping(body.get("wrap_info"))
    if wrap:
        rows += [(f"{name}:", text) for name, text in _wrap_rows(wrap)]
    auth = as_mapping(body.get("auth"))
    if auth:
        rows += _auth_rows(auth)
    data = as_mapping(body.get("data"))
    rows += [(key, _data_cell(key, data[key])) for key in sorted(data)]
    return [(printable(name), printable(text, chars_max=1 << 20)) for name, text in rows]


def secret_document(body: Mapping[str, object]) -> Document:
    """Return the document of one answer."""
    return Document(
        secret_data(body),
        lambda _: key_value_table(secret_rows(body)),
        rows=secret_rows(body),
        fields=secret_fields(body),
        where="secret",
    )


def list_document(keys: list[object]) -> Document:
    """Return the document of a list of keys."""
    names = [printable(as_text(key)) for key in keys]
    return Document(
        keys,
        lambda _: dashed_table([("Keys",), *((name,) for name in names)]),
        rows=[(name,) for name in names],
        names=names,
        records=keys,
    )


def listed_keys(answer: Answer) -> list[object]:
    """Return the keys of a list answer; [] when there are none."""
    return as_list(as_mapping(answer.mapping().get("data")).get("keys"))


def has_content(answer: Answer) -> bool:
    """Return whether an answer holds a secret, a token or a wrapping token."""
    body = answer.mapping()
    return any(body.get(name) for name in ("data", "auth", "wrap_info"))


def show_warnings(cli: Cli, answer: Answer) -> None:
    """Print the server's warnings on stderr, unless a document carries them."""
    warnings = [text for text in as_list(answer.mapping().get("warnings")) if text]
    if not warnings or not cli.out.is_plain:
        return
    lines = "\n".join(f"  * {printable(as_text(text))}" for text in warnings)
    cli.out.note(f"WARNING! The following warnings were returned from OpenBao:\n\n{lines}\n")


def _data_cell(key: str, value: object) -> str:
    number = as_int(value)
    if key in _DURATION_FIELDS and number is not None:
        return duration_text(number)
    return cell_text(value)


def _auth_fields(auth: Mapping[str, object]) -> dict[str, object]:
    fields: dict[str, object] = {
        "token": auth.get("client_token"),
        "token_accessor": auth.get("accessor"),
        "token_duration": auth.get("lease_duration"),
        "token_renewable": auth.get("renewable"),
        "token_policies": auth.get("token_policies"),
        "identity_policies": auth.get("identity_policies"),
        "policies": auth.get("policies"),
    }
    for key, value in as_mapping(auth.get("metadata")).items():
        fields[f"token_meta_{key}"] = value
    return fields


def _auth_rows(auth: Mapping[str, object]) -> list[tuple[str, str]]:
    duration_s = as_int(auth.get("lease_duration")) or 0
    rows = [
        ("token", cell_text(auth.get("client_token"))),
        ("token_accessor", cell_text(auth.get("accessor"))),
        ("token_duration", duration_text(duration_s) if duration_s else "∞"),
        ("token_renewable", cell_text(bool(auth.get("renewable")))),
        ("token_policies", quoted_list(auth.get("token_policies"))),
        ("identity_policies", quoted_list(auth.get("identity_policies"))),
        ("policies", quoted_list(auth.get("policies"))),
    ]
    metadata = as_mapping(auth.get("metadata"))
    rows += [(f"token_meta_{key}", cell_text(metadata[key])) for key in sorted(metadata)]
    return rows


def _wrap_fields(wrap: Mapping[str, object]) -> dict[str, object]:
    fields = {
        "wrapping_token": wrap.get("token"),
        "wrapping_accessor": wrap.get("accessor"),
        "wrapping_token_ttl": wrap.get("ttl"),
        "wrapping_token_creation_time": wrap.get("creation_time"),
        "wrapping_token_creation_path": wrap.get("creation_path"),
    }
    if wrap.get("wrapped_accessor"):
        fields["wrapped_accessor"] = wrap["wrapped_accessor"]
    return fields


def _wrap_rows(wrap: Mapping[str, object]) -> list[tuple[str, str]]:
    fields = _wrap_fields(wrap)
    ttl_s = as_int(wrap.get("ttl"))
    return [
        (name, duration_text(ttl_s) if name.endswith("_ttl") and ttl_s else cell_text(value))
        for name, value in fields.items()
    ]
