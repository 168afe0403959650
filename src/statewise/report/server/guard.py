"""Who may ask `statewise serve`, and the headers that every answer carries.

The server is for one browser on this machine. Another site open in that browser could send requests here, so a request
must name this server (`Host`: no DNS rebinding), come from one of its pages (`Origin`, `Sec-Fetch-Site`) and be a GET.
"""

from __future__ import annotations

from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Connection": "close",  # one request per connection: a deadline for each is enough
}
POLICY = "Content-Security-Policy"


class Guard:
    """Middleware: refuses requests of other sites, and completes the headers of every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_hardened(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                policy = headers.get(POLICY, "default-src 'none'")
                headers[POLICY] = f"{policy}; frame-ancestors 'none'"
            await send(message)

        answer = _refusal(scope) or self.app
        await answer(scope, receive, send_hardened)


def one_line(
    text: str, status: HTTPStatus, headers: dict[str, str] | None = None
) -> PlainTextResponse:
    """A refusal or a fault as one line of text."""
    # What the text quotes may hold a surrogate, which UTF-8 has no bytes for.
    safe = f"{' '.join(text.split())}\n".encode("utf-8", "backslashreplace")
    return PlainTextResponse(safe, status, headers)


def _refusal(scope: Scope) -> PlainTextResponse | None:
    """Why a request is not answered; None if it may be."""
    headers = Headers(scope=scope)
    own = [f"{host}:{scope['server'][1]}" for host in (scope["server"][0], "localhost")]
    hosts = headers.getlist("host")
    if not hosts or any(host not in own for host in hosts):
        return one_line("this server answers to its own name only", HTTPStatus.FORBIDDEN)
    if any(
        origin not in [f"http://{host}" for host in own] for origin in headers.getlist("origin")
    ):
        return one_line("this server answers its own pages only", HTTPStatus.FORBIDDEN)
    if not _is_from_here(headers):
        return one_line("this server answers its own pages only", HTTPStatus.FORBIDDEN)
    if scope["method"] != "GET":
        return one_line("GET only", HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": "GET"})
    return None


def _is_from_here(headers: Headers) -> bool:
    """True for the server's own pages, an address typed by the user, and a link that is followed to a whole page.

    A client that is not a browser sends none of these headers, and can do what the user can.
    """
    site = headers.get("sec-fetch-site", "none")
    followed = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == (
        "navigate",
        "document",
    )
    return site in ("none", "same-origin") or followed
