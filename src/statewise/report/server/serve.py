"""`statewise serve`: finished and live runs in a browser on this machine.

A Starlette application on uvicorn, bound to 127.0.0.1 (`listening.py`), for its own pages (`guard.py`). All by GET:

    /                            all runs: progress, curves, verdicts
    /events                      the status of all runs as server-sent events, one after each change
    /status.json                 the same status, once
    /runs/NAME/                  the run's report, made in memory when it is requested
    /runs/NAME/verdicts.json     verdicts so far
    /runs/NAME/scores.json       target and retention of each arm so far: the points of the common figure
    /runs/NAME/items             all items, by page and filter; /items.json is its data

A request never becomes a path on the disk: a run is looked up by its name in a table. Nothing may be embedded, and only
scripts named by their hash run.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from markupsafe import Markup
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from statewise.errors import StatewiseError
from statewise.report.figures import catalogue, theme
from statewise.report.inputs import gather
from statewise.report.page.html import (
    Document,
    Served,
    asset,
    content_policy,
    joined,
    page,
    template_environment,
)
from statewise.report.server import progress
from statewise.report.server.guard import POLICY, Guard, one_line
from statewise.report.server.items import page_of
from statewise.report.server.listening import Limits, Server
from statewise.results.summary import summarise
from statewise.results.types import Results
from statewise.store import RunFolder

SHARED = ("text.js", "theme.js")
FETCHES = "; connect-src 'self'"
LIMITS = Limits()
EVENT_SECONDS = 2.0
"""How often a run folder is looked at for a page that is open."""
MOST_FILTERS = 20
MOST_STREAMS = LIMITS.connections // 4
"""Streams of events at one time: each keeps a connection."""


@dataclass(slots=True)
class Site:
    """The runs by their names in addresses, and what was last made of each."""

    runs: Mapping[str, Path]
    results: dict[str, tuple[progress.Stamp, Results]] = field(default_factory=dict)
    reports: dict[str, tuple[progress.Stamp, Document]] = field(default_factory=dict)
    # Matplotlib's settings belong to the process, so one page is drawn at a time.
    drawing: threading.Lock = field(default_factory=threading.Lock)
    streams: int = 0


def site_of(run_dirs: list[Path]) -> Site:
    """Runs under the names of their folders. Raises RunError if one is not a run folder."""
    runs: dict[str, Path] = {}
    for run_dir in run_dirs:
        RunFolder(run_dir).must_exist()
        resolved = run_dir.resolve()
        # ASCII only: a browser percent-encodes other characters.
        name = re.sub(r"[^\w.-]", "-", resolved.name, flags=re.ASCII) or "run"
        count = 1
        while (f"{name}-{count}" if count > 1 else name) in runs:
            count += 1
        runs[f"{name}-{count}" if count > 1 else name] = resolved
    return Site(runs)


def application(site: Site) -> Starlette:
    """The ASGI application that answers for these runs."""

    def of_run(make: Callable[[Site, Request], Response]) -> Callable[[Request], Response]:
        def endpoint(request: Request) -> Response:
            if request.path_params["name"] not in site.runs:
                raise HTTPException(HTTPStatus.NOT_FOUND)
            return _guarded(lambda: make(site, request))

        return endpoint

    async def events(_: Request) -> Response:
        if site.streams >= MOST_STREAMS:
            return one_line("too many pages are open", HTTPStatus.SERVICE_UNAVAILABLE)
        return StreamingResponse(_events(site), media_type="text/event-stream")

    routes = [
        Route("/", lambda _: _guarded(lambda: _index(site))),
        Route("/status.json", lambda _: _guarded(lambda: _data(_statuses(site)))),
        Route("/events", events),
        Route("/runs/{name}/", of_run(_report)),
        Route("/runs/{name}/verdicts.json", of_run(_verdicts)),
        Route("/runs/{name}/scores.json", of_run(_scores)),
        Route("/runs/{name}/items", of_run(_items)),
        Route("/runs/{name}/items.json", of_run(_item_rows)),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Guard)],
        exception_handlers={HTTPStatus.NOT_FOUND: _no_page},
    )
    app.router.redirect_slashes = False
    return app


def serving(site: Site, port: int, limits: Limits = LIMITS) -> Server:
    """A server that is bound and not yet running. Raises ConfigError if the port cannot be used."""
    return Server(application(site), port, limits)


def _no_page(_: Request, __: Exception) -> Response:
    return one_line("there is no such page", HTTPStatus.NOT_FOUND)


def _guarded(make: Callable[[], Response]) -> Response:
    """An answer, or a line that says what went wrong: one broken run must not end the others."""
    try:
        return make()
    except StatewiseError as error:
        return one_line(str(error), HTTPStatus.CONFLICT)
    except Exception as error:  # noqa: BLE001 - shown as what it is, and nothing is computed from it
        return one_line(_fault(error), HTTPStatus.INTERNAL_SERVER_ERROR)


def _fault(error: Exception) -> str:
    return f"this cannot be shown: {type(error).__name__}: {' '.join(str(error).split())}"


def _data(value: Any) -> Response:
    return Response(json.dumps(value, allow_nan=False), media_type="application/json")


async def _events(site: Site) -> AsyncIterator[str]:
    """The status of all runs as server-sent events: now, and after each change."""
    sent: dict[str, Any] = {}
    site.streams += 1
    try:
        while True:
            status = await run_in_threadpool(_statuses, site)
            known = {name: _by_the_minute(run) for name, run in status.items()}
            # A line that starts with a colon is a comment: it shows each side that the other is still there.
            data = json.dumps(status, allow_nan=False)
            yield f"data: {data}\n\n" if known != sent else ": unchanged\n\n"
            sent = known
            await asyncio.sleep(EVENT_SECONDS)
    finally:
        site.streams -= 1


def _by_the_minute(status: Mapping[str, Any]) -> dict[str, Any]:
    """A status to compare: the seconds since the last write change all the time, and the page shows minutes."""
    return dict(status) | {"idle_seconds": int(status.get("idle_seconds", 0)) // 60}


def _statuses(site: Site) -> dict[str, Any]:
    return {name: _status(run_dir) for name, run_dir in site.runs.items()}


def _status(run_dir: Path) -> dict[str, Any]:
    try:
        return progress.status(run_dir)
    except StatewiseError as error:  # one damaged run must not hide the others
        return {"error": " ".join(str(error).split())}
    except Exception as error:  # noqa: BLE001 - nor one with damage that nobody thought of
        return {"error": _fault(error)}


def _results(site: Site, name: str) -> Results:
    """Current results: made again only if a file has changed."""
    with site.drawing:
        return _summarised(site, name, progress.stamp(site.runs[name]))


def _summarised(site: Site, name: str, now: progress.Stamp) -> Results:
    if name not in site.results or site.results[name][0] != now:
        site.results[name] = (now, summarise(site.runs[name]))
    return site.results[name][1]


def _report(site: Site, request: Request) -> Response:
    name = request.path_params["name"]
    with site.drawing:
        now = progress.stamp(site.runs[name])
        if name not in site.reports or site.reports[name][0] != now:
            material = gather(site.runs[name], _summarised(site, name, now))
            served = Served("/", f"/runs/{name}/items")
            site.reports[name] = (now, page(material, catalogue.plates(material), served=served))
        document = site.reports[name][1]
    return _html(document.html, document.policy)


def _verdicts(site: Site, request: Request) -> Response:
    return _data(progress.verdicts(_results(site, request.path_params["name"])))


def _scores(site: Site, request: Request) -> Response:
    return _data(progress.together(_results(site, request.path_params["name"])))


def _item_rows(site: Site, request: Request) -> Response:
    try:
        query = dict(parse_qsl(request.url.query, max_num_fields=MOST_FILTERS))
    except ValueError:
        return one_line("more filters than there are", HTTPStatus.BAD_REQUEST)
    return _data(page_of(site.runs[request.path_params["name"]], query))


def _index(site: Site) -> Response:
    return _shell("serve.html", (*SHARED, "together.js", "serve.js"), runs=list(site.runs))


def _items(_: Site, request: Request) -> Response:
    return _shell("items.html", (*SHARED, "items-page.js"), run=request.path_params["name"])


def _html(text: str, policy: str) -> Response:
    # A model may write half a surrogate pair, which UTF-8 has no bytes for.
    body = text.encode("utf-8", "backslashreplace")
    return HTMLResponse(body, headers={POLICY: policy})


def _shell(template: str, scripts: tuple[str, ...], **values: Any) -> Response:
    """A page whose script fetches its data."""
    style, script = (
        theme.css() + joined(("page.css", "microscope.css", "serve.css")),
        joined(scripts),
    )
    policy = content_policy(style, script, FETCHES)
    text = (
        template_environment()
        .from_string(asset(template))
        .render(
            style=Markup(style),  # noqa: S704 - our own file
            script=Markup(script),  # noqa: S704 - our own file
            **values,
        )
    )
    return _html(text, policy)
