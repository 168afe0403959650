"""The listening side of `statewise serve`: a small HTTP server that no client can hold up.

A connection carries one request. Its line and headers have one deadline together, however they drip in, and its
answer has one to be taken. At most so many connections are open (`Limits`): one more closes the oldest that waits
for its client, so that who asks and reads at once is served whatever the others do.

Every answer is made by `send`, those of malformed requests too, so that each carries `HEADERS`.
"""

from __future__ import annotations

import contextlib
import io
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import urlsplit

from statewise.errors import ConfigError

HOST = "127.0.0.1"
TEXT = "text/plain; charset=utf-8"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client is given."""

    request_seconds: float = 10.0
    answer_seconds: float = 30.0
    connections: int = 64


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back: a type, a body, the content policy of a page."""

    kind: str
    body: str
    policy: str = "default-src 'none'"
    code: HTTPStatus = HTTPStatus.OK


def plain_answer(text: str, code: HTTPStatus) -> Answer:
    """One line of text."""
    return Answer(TEXT, f"{' '.join(text.split())}\n", code=code)


def listening(
    answer: Callable[[str], Answer],
    port: int,
    limits: Limits,
) -> ThreadingHTTPServer:
    """A server of `answer` (of a path and query) that is bound and not yet running.

    Raises ConfigError for a port that does not exist, is taken or is not ours to take.
    """
    if not 0 <= port <= 65535:
        raise ConfigError(f"--port must be between 0 and 65535 (0 = a free one), found {port}")
    try:
        return _Server(answer, port, limits)
    except OSError as error:
        raise ConfigError(
            f"--port {port}: {error.strerror or error}; 0 takes a free one"
        ) from error


@dataclass(slots=True)
class _Open:
    """A connection: since when, and whether it waits for its client (and not for us)."""

    since: float = field(default_factory=time.monotonic)
    waits: bool = True


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer: Callable[[str], Answer], port: int, limits: Limits) -> None:
        self.answer, self.limits = answer, limits
        self.open: dict[socket.socket, _Open] = {}
        self.lock = threading.RLock()  # refusing a connection closes it, under the lock
        ThreadingHTTPServer.__init__(self, (HOST, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for the connection, once there is room for it."""
        with self.lock:
            waiting = [(known.since, each) for each, known in self.open.items() if known.waits]
            if len(self.open) >= self.limits.connections:
                if waiting:
                    _, oldest = min(waiting, key=lambda pair: pair[0])
                    del self.open[oldest]
                    _hang_up(oldest)
                else:  # every one is being answered: a browser asks again
                    self.shutdown_request(request)
                    return
            self.open[request] = _Open()
        ThreadingHTTPServer.process_request(self, request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection and give its place back."""
        with self.lock:
            self.open.pop(request, None)
        ThreadingHTTPServer.shutdown_request(self, request)

    def waits(self, request: socket.socket, *, now: bool) -> None:
        """Say whether the connection waits for its client from here on."""
        if (known := self.open.get(request)) is not None:
            known.waits = now

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news; a fault of ours is one line."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            sys.stderr.write(f"serve: {type(error).__name__}: {error}\n")


def _hang_up(connection: socket.socket) -> None:
    """Wake the thread that reads from or writes to a connection: both end with an error."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class _Timed(io.RawIOBase):
    """What a socket receives until a deadline that all of it shares: a client that drips gains no time."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection = connection
        self._ends = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request took too long")
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class _Handler(BaseHTTPRequestHandler):
    server_version = "statewise"
    sys_version = ""
    default_request_version = "HTTP/1.0"  # an answer to a torn request line has headers too
    connection: socket.socket

    def setup(self) -> None:
        BaseHTTPRequestHandler.setup(self)
        self.rfile.close()
        timed = _Timed(self.connection, self._server.limits.request_seconds)
        self.rfile = io.BufferedReader(timed)

    @property
    def _server(self) -> _Server:
        return cast(_Server, self.server)

    def do_GET(self) -> None:
        """Answer, or say in one line why not."""
        self._server.waits(self.connection, now=False)
        self.send(self._found())

    def _found(self) -> Answer:
        port = self.connection.getsockname()[1]
        own = (f"{HOST}:{port}", f"localhost:{port}")
        try:
            asked = urlsplit(self.path)
        except ValueError as error:
            return plain_answer(f"not an address: {error}", HTTPStatus.BAD_REQUEST)
        named = [*(self.headers.get_all("Host") or ()), *([asked.netloc] if asked.netloc else ())]
        if not named or any(name not in own for name in named):
            return plain_answer("this server answers to its own name only", HTTPStatus.FORBIDDEN)
        return self._server.answer(f"{asked.path}{'?' if asked.query else ''}{asked.query}")

    def _refuse(self) -> None:
        self.send(plain_answer("GET only", HTTPStatus.METHOD_NOT_ALLOWED))

    do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _refuse  # noqa: N815

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the standard library refuses: the same headers, and nothing of the request repeated."""
        status = HTTPStatus(code)
        self.send(plain_answer(status.description or status.phrase, status))

    def send(self, found: Answer) -> None:
        """Send an answer and end the connection."""
        body = found.body.encode("utf-8", "backslashreplace")
        self.send_response(found.code)
        for name, value in {
            "Content-Type": found.kind,
            "Content-Length": str(len(body)),
            "Content-Security-Policy": f"{found.policy}; frame-ancestors 'none'",
            **HEADERS,
        }.items():
            self.send_header(name, value)
        if found.code == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET")
        self.send_header("Connection", "close")
        self.close_connection = True
        self._server.waits(self.connection, now=True)
        # The timeout of `sendall` is that of the whole answer, however slowly it is taken.
        self.connection.settimeout(self._server.limits.answer_seconds)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        # What is closed with bytes unread is reset, and the answer with it.
        self.connection.settimeout(0)
        with contextlib.suppress(OSError):
            while self.connection.recv(1 << 16):
                pass

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the parameter's own name
        """No line a request: the terminal shows the address and nothing else."""
