"""
Errors that nobody foresaw are logged by type and place: their text may quote a token or a body.

An error whose text is a token is thrown at every place that catches everything, and the token must
not be in the log. That no other such place logs a text is read from the source.
"""

from __future__ import annotations

import ast
import gc
import logging
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from baoha.api.app import build_app
from baoha.api.requests import serve_forwarded
from baoha.asgi import Receive, Scope, Send
from baoha.cluster.network import TCPNetwork
from baoha.cluster.transport import _ReaderSlot
from baoha.core.request import Request, Response
from baoha.errors import ForwardingError, type_and_place
from baoha.sansio.wire.messages import HTTPRequest, HTTPResponse
from baoha.server.http.app_tasks import AppTasks
from baoha.server.http.connection import _report
from baoha.server.last_words import without_texts
from baoha.server.logs import Logs
from tests.support.asgi_client import call
from tests.support.channel import RecordingActive, open_channel, request
from tests.support.fake_node import ACTIVE, FakeNodeView

TOKEN = "s.token-of-somebody"
SERVER = sorted((Path(__file__).resolve().parents[2] / "baoha").rglob("*.py"))
LOGGING = frozenset({"debug", "info", "warning", "error", "critical", "log"})
# What may be done with the error there: its type, its place.
ALLOWED = frozenset({"type", "type_and_place"})


def fail() -> None:
    raise ValueError(f"cannot read {TOKEN!r}")


async def fail_with_token(received: HTTPRequest | Request) -> Any:
    fail()


def require_place_without_text(log: str) -> None:
    assert "ValueError" in log
    assert "in fail" in log or "test_foreign_errors.py:" in log
    assert TOKEN not in log


def failing_node() -> FakeNodeView:
    node = FakeNodeView(ACTIVE)

    async def handle(received: Request) -> Response:
        fail()
        return Response()

    node.on_handle = handle
    return node


async def test_request_that_fails_is_logged_without_the_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = await call(build_app(failing_node()), "GET", "/v1/secret/x")

    assert answer is not None
    assert answer.status == 500
    require_place_without_text(caplog.text)


async def test_forwarded_request_that_fails_is_logged_without_the_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer = await serve_forwarded(failing_node(), request())

    assert answer.status == 500
    require_place_without_text(caplog.text)


async def test_handler_of_the_channel_that_fails_is_logged_without_the_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def answer(received: HTTPRequest) -> HTTPResponse:
        fail()
        raise AssertionError

    async with open_channel(active=RecordingActive(answer=answer)) as channel:
        with suppress(ForwardingError):  # an unknown outcome is an answer, too
            assert (await channel.link.forward(request())).status >= 500

    require_place_without_text(caplog.text)


async def test_connection_of_the_cluster_port_that_fails_is_logged_without_the_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handler(stream: trio.abc.Stream) -> None:
        async with stream:
            fail()

    network = TCPNetwork()
    async with trio.open_nursery() as nursery:

        async def serve(task_status: trio.TaskStatus[tuple[str, int]]) -> None:
            await network.serve(handler, "127.0.0.1", 0, task_status=task_status)

        host, port = await nursery.start(serve)
        stream = await network.connect(host, port)
        with trio.fail_after(5):
            assert await stream.receive_some(1) == b""
        await stream.aclose()
        nursery.cancel_scope.cancel()

    require_place_without_text(caplog.text)


async def test_reader_of_the_channel_that_fails_is_logged_without_the_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def reader() -> None:
        fail()

    async with trio.open_nursery() as nursery:
        _ReaderSlot(nursery).start_soon(reader)

    require_place_without_text(caplog.text)


async def test_app_that_fails_is_logged_without_the_text(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        fail()

    async def send(message: Any) -> None:
        assert message is None

    async with AppTasks(app, {}) as tasks:
        await tasks.spawn_app(app, None, {"type": "http", "method": "GET"}, send)

    require_place_without_text(caplog.text)


@pytest.mark.parametrize("kind", [ValueError, ssl.SSLError])
def test_connection_that_fails_is_logged_without_the_text(
    kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    try:
        raise kind(TOKEN)
    except Exception as exc:
        _report(ExceptionGroup("one", [exc]))

    assert TOKEN not in caplog.text


@pytest.mark.parametrize("form", ["standard", "json"])
def test_record_of_a_library_with_an_error_is_written_without_the_text(
    form: Any, tmp_path: Path
) -> None:
    logs = Logs(level="info", format=form, file=str(tmp_path / "log"))
    try:
        fail()
    except ValueError:
        logging.getLogger("a.library").exception("it failed")
    logs.close()

    text = (tmp_path / "log").read_text()
    assert "it failed" in text
    require_place_without_text(text)


def test_thread_that_fails_is_logged_without_the_text(caplog: pytest.LogCaptureFixture) -> None:
    with without_texts():
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()

    require_place_without_text(caplog.text)


def test_destructor_that_fails_is_logged_without_the_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Failing:
        def __repr__(self) -> str:
            return TOKEN

        def __del__(self) -> None:
            fail()

    with without_texts():
        Failing()
        gc.collect()

    require_place_without_text(caplog.text)


def test_error_that_nobody_catches_is_logged_without_the_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with without_texts():
        try:
            fail()
        except ValueError as exc:
            sys.excepthook(type(exc), ExceptionGroup(TOKEN, [exc]), exc.__traceback__)

    require_place_without_text(caplog.text)


def test_hooks_of_python_are_back_afterwards() -> None:
    before = (sys.excepthook, sys.unraisablehook, threading.excepthook)
    with without_texts():
        assert sys.excepthook is not before[0]

    assert (sys.excepthook, sys.unraisablehook, threading.excepthook) == before


def test_type_and_place_of_an_endless_recursion_is_short() -> None:
    def recurse() -> None:
        recurse()

    with pytest.raises(RecursionError) as caught:
        recurse()

    assert len(type_and_place(caught.value).splitlines()) < 50


# --- the source -----------------------------------------------------------------------------------


def handlers(tree: ast.AST) -> Iterator[tuple[ast.ExceptHandler, ast.Call]]:
    for handler in ast.walk(tree):
        if isinstance(handler, ast.ExceptHandler) and _catches_everything(handler):
            for node in ast.walk(handler):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    yield handler, node


def _catches_everything(handler: ast.ExceptHandler) -> bool:
    names = {node.id for node in ast.walk(handler.type or handler) if isinstance(node, ast.Name)}
    return handler.type is None or bool(names & {"Exception", "BaseException"})


@pytest.mark.parametrize("path", SERVER, ids=lambda path: path.name)
def test_source_no_traceback_with_texts_is_logged(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            where = f"{path.name}:{node.lineno}"
            assert not ast.unparse(node.func).endswith(("log.exception", "logger.exception")), where
            assert "exc_info" not in {keyword.arg for keyword in node.keywords}, where


@pytest.mark.parametrize("path", SERVER, ids=lambda path: path.name)
def test_source_who_catches_everything_logs_no_text(path: Path) -> None:
    for handler, logged in handlers(ast.parse(path.read_text())):
        assert isinstance(logged.func, ast.Attribute)
        if logged.func.attr not in LOGGING:
            continue
        for argument in logged.args:
            if isinstance(argument, ast.Call) and ast.unparse(argument.func) in ALLOWED:
                continue
            if ast.unparse(argument).startswith(f"type({handler.name})."):
                continue
            used = {node.id for node in ast.walk(argument) if isinstance(node, ast.Name)}
            assert handler.name not in used, f"{path.name}:{logged.lineno}"
