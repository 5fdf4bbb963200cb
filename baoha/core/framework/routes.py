"""
The base of our engines: a table of paths, each with its fields and one handler per operation.

Rules of this file:

1. A path that no route knows is "unsupported path" (404); an operation that its route does not
   know is "unsupported operation" (405). The texts differ for unauthenticated requests.
2. A handler sees only declared and converted fields. What was sent beyond them is named in a
   warning, never silently obeyed.
3. Fields are converted in the event loop: their size is bounded before. A payload is not converted
   beyond its outermost level.

Where a route can tell a create from an update, its fields are checked once more by then, with the
bare text of the conversion error: OpenBao checks existence before the capability, and so do we.

Source: OpenBao 2.7.2 as recorded (tests/conformance/recordings/generic-http.json) and measured.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from baoha.core.framework.engine import Engine, EngineContext
from baoha.core.framework.fields import FieldError, FieldKind, convert
from baoha.core.keys.barrier import BarrierView
from baoha.core.request import Operation, Request, Response
from baoha.errors import InvalidRequest, NotFound, UnsupportedOperation
from baoha.sansio.formats.json_encoder import cost

# Far more than any field needs; a policy in base64 is the largest.
FIELDS_BYTES_MAX: Final = 512 * 1024
_SHOWN_NAME_CHARS_MAX: Final = 1000
# Clients that read pass their fields in the query string, clients that write in the body.
_QUERY_OPERATIONS: Final = frozenset(
    {Operation.READ, Operation.LIST, Operation.SCAN, Operation.DELETE}
)
_CREATING: Final = frozenset({Operation.CREATE, Operation.UPDATE})


def error_list(text: str) -> str:
    """Return an error text in the list form that OpenBao gives to errors from below dispatch."""
    return f"1 error occurred:\n\t* {text}\n\n"


@dataclass(frozen=True, slots=True)
class Call:
    """
    What a handler gets: the request, the engine's storage, the captured parts of the path.

    Attributes:
        fields: declared fields that were sent, converted; a field that was not sent is absent.
        raw: the same fields as they were sent (for patches, where null has a meaning).
    """

    request: Request
    storage: BarrierView
    path: Mapping[str, str]
    fields: Mapping[str, Any] = field(repr=False)
    raw: Mapping[str, Any] = field(repr=False)


Handler = Callable[[Call], Awaitable[Response]]
Existence = Callable[[Call], Awaitable[bool | None]]


@dataclass(frozen=True, slots=True)
class Route:
    """
    One path of an engine.

    Attributes:
        pattern: a regular expression for the whole relative path; named groups are captured.
        handlers: one per operation; CREATE falls back to UPDATE.
        fields: the declared fields.
        takes_any: undeclared fields are the payload and cause no warning.
        payload: the declared field that may be of any size if it is an object, and is the handler's
            to bound.
        exists: tells an update from a create, where the path can.
    """

    pattern: str
    handlers: Mapping[Operation, Handler]
    fields: Mapping[str, FieldKind] = field(default_factory=dict)
    takes_any: bool = False
    payload: str = ""
    exists: Existence | None = None

    def handler(self, operation: Operation) -> Handler | None:
        """Return the handler of an operation."""
        found = self.handlers.get(operation)
        if found is None and operation is Operation.CREATE:
            return self.handlers.get(Operation.UPDATE)
        return found


class RouteEngine(Engine):
    """An engine made of routes. The first route whose pattern matches the whole path is taken."""

    def __init__(self, context: EngineContext, routes: Sequence[Route]) -> None:
        super().__init__(context)
        self._routes = [(re.compile(route.pattern, re.DOTALL), route) for route in routes]

    async def exists(self, request: Request) -> bool | None:
        """As ``Engine.exists``; None: the path does not care."""
        found = self._find(request.path)
        if found is None or found[0].exists is None:
            return None
        route, captured = found
        sent = _sent(request)
        call = _open_call(route, captured, request, sent, self.context.storage, prefix="")
        assert route.exists is not None
        return await route.exists(call)

    async def handle(self, request: Request) -> Response:
        """Carry out one request. Raises RequestError for the client's fault."""
        found = self._find(request.path)
        if found is None:
            raise NotFound(_below_dispatch("unsupported path", request))
        route, captured = found
        handler = route.handler(request.operation)
        if handler is None:
            raise UnsupportedOperation(_below_dispatch("unsupported operation", request))
        # Where existence is asked first, that question finds the fault, and does not say so.
        checks_existence = route.exists is not None and request.operation in _CREATING
        prefix = "" if checks_existence else "Field validation failed: "
        sent = _sent(request)
        call = _open_call(route, captured, request, sent, self.context.storage, prefix=prefix)
        response = await handler(call)
        _warn_about_fields(response, route, captured, sent)
        return response

    def _find(self, path: str) -> tuple[Route, dict[str, str]] | None:
        for pattern, route in self._routes:
            match = pattern.fullmatch(path)
            if match is not None:
                captured = match.groupdict()
                if None in captured.values():
                    captured = {k: v for k, v in captured.items() if v is not None}
                return route, captured
        return None


def _below_dispatch(text: str, request: Request) -> str:
    return text if request.caller is None else error_list(text)


def _sent(request: Request) -> Mapping[str, Any]:
    return request.query if request.operation in _QUERY_OPERATIONS else request.data


def _open_call(
    route: Route,
    captured: dict[str, str],
    request: Request,
    sent: Mapping[str, Any],
    storage: BarrierView,
    *,
    prefix: str,
) -> Call:
    for part in captured.values():
        if ".." in part.split("/"):
            raise InvalidRequest("relative paths not supported")
    raw, counted = {}, []
    for name, value in sent.items():
        if name in route.fields and name not in captured:
            raw[name] = value
            # A payload in the form of a list is converted: one object is made of its items.
            if name != route.payload or isinstance(value, list):
                counted.append(value)
    if counted and cost(counted) > FIELDS_BYTES_MAX:
        raise InvalidRequest(f"{prefix}fields are larger than {FIELDS_BYTES_MAX} bytes")
    fields = {}
    try:
        for name, value in raw.items():
            fields[name] = convert(route.fields[name], name, value)
    except FieldError as exc:
        raise InvalidRequest(f"{prefix}{exc}") from exc
    return Call(request, storage, captured, fields, raw)


def _warn_about_fields(
    response: Response, route: Route, captured: Mapping[str, str], sent: Mapping[str, Any]
) -> None:
    is_empty = response.data is None and response.auth is None and response.login is None
    # An answer with a status of its own is final, as one with a body of its own.
    is_final = response.status is not None or response.raw is not None
    if route.takes_any or is_final or (is_empty and not response.warnings):
        return
    ignored = sent.keys() - route.fields.keys() - captured.keys()
    if ignored:
        names = " ".join(name[:_SHOWN_NAME_CHARS_MAX] for name in sorted(ignored))
        response.warnings.append(f"Endpoint ignored these unrecognized parameters: [{names}]")
    replaced = sent.keys() & captured.keys()
    if replaced:
        names = " ".join(sorted(replaced))
        response.warnings.append(
            "Endpoint replaced the value of these parameters with the values captured from the "
            f"endpoint's path: [{names}]"
        )
