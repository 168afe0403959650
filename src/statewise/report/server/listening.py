"""uvicorn on loopback, with the limits that it lacks: no client can hold up the others.

uvicorn reads requests, calls the application and writes answers. It waits forever for the rest of a request's head
and for a client that does not read its answer. `_Connection` adds a deadline for each, and a cap on open connections:
a new connection beyond it closes the oldest one that waits for its client. If every connection is being answered,
uvicorn's own cap applies (`limit_concurrency`): 503.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from statewise.errors import ConfigError

HOST = "127.0.0.1"
BACKLOG = 128


@dataclass(frozen=True, slots=True)
class Limits:
    """Deadlines of a client and the number of open connections."""

    request_seconds: float = 10.0
    answer_seconds: float = 30.0
    connections: int = 64


class Server:
    """An application on a port of 127.0.0.1: bound at once, answering while `run` runs.

    Raises ConfigError if the port does not exist, is taken or may not be used.
    """

    def __init__(self, application: ASGIApp, port: int, limits: Limits) -> None:
        if not 0 <= port <= 65535:
            raise ConfigError(f"--port must be between 0 and 65535 (0 = a free one), found {port}")
        self._socket = socket.socket()
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((HOST, port))
            self._socket.listen(BACKLOG)  # a client that connects before `run` waits for it
        except OSError as error:
            self._socket.close()
            raise ConfigError(
                f"--port {port}: {error.strerror or error}; 0 takes a free one"
            ) from error
        self.port: int = self._socket.getsockname()[1]
        self._server = uvicorn.Server(
            uvicorn.Config(
                application,
                http=cast(Any, partial(_Connection, limits=limits)),
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="critical",  # it would log a line per malformed request
                access_log=False,
                proxy_headers=False,
                server_header=False,
                limit_concurrency=limits.connections + 1,
                timeout_graceful_shutdown=1,  # a stream of events does not end by itself
                backlog=BACKLOG,
            )
        )

    def run(self) -> None:
        """Answer until `stop` is called or a signal arrives."""
        self._server.run(sockets=[self._socket])

    def stop(self) -> None:
        """End `run`, which another thread is in."""
        self._server.should_exit = True

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()


class _Connection(H11Protocol):
    """A connection of uvicorn's that closes if its client takes too long.

    One timer at a time, set while the next move is the client's: until the request's head is complete, and while bytes
    of the answer wait to be read. Nothing is timed while the application works, so a stream of events may stay open.
    """

    def __init__(self, *args: Any, limits: Limits, **options: Any) -> None:
        super().__init__(*args, **options)
        self._limits = limits
        self.deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        # The whole head has one deadline: a client that sends a byte at a time gains nothing.
        self._allow(self._limits.request_seconds)
        self._close_oldest()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.flow.write_paused:
            self._allow(None)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._allow(self._limits.answer_seconds)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._allow(None)

    def on_response_complete(self) -> None:
        # What is left in the buffer is sent after this; a client that does not read would keep the connection.
        super().on_response_complete()
        if not self.flow.write_paused:
            self._allow(self._limits.answer_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._allow(None)

    def _allow(self, seconds: float | None) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
        self.deadline = self.loop.call_later(seconds, self.abort) if seconds is not None else None

    def abort(self) -> None:
        self._allow(None)
        self.transport.abort()

    def _close_oldest(self) -> None:
        """Make room: of the connections that wait for their client, close the one whose deadline is first."""
        if len(self.connections) <= self._limits.connections:
            return
        waiting = [
            (each.deadline.when(), id(each), each)
            for each in self.connections
            if isinstance(each, _Connection) and each is not self and each.deadline is not None
        ]
        if waiting:
            oldest = min(waiting)[2]
            self.connections.discard(oldest)
            oldest.abort()
