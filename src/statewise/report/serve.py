"""`statewise serve`: whole and live runs in a browser on this machine.

The standard library's server, bound to 127.0.0.1. What it answers, all by GET:

    /                            every run side by side: progress, curves, verdicts
    /status.json                 the same as data, asked for every two seconds
    /runs/NAME/                  the run's report, made in memory when it is asked for
    /runs/NAME/verdicts.json     verdicts so far
    /runs/NAME/items             every item, by page and filter; /items.json is its data

No path of the disk is ever taken from a request: a run is looked up by its name in a table. The Host
header must name this server, so that no other site can reach it under a name of its own (DNS
rebinding); nothing may be embedded, and only scripts named by their hash run.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from markupsafe import Markup

from statewise.errors import ConfigError, StatewiseError
from statewise.report import live, sections, theme
from statewise.report.item_rows import page_of
from statewise.report.material import gather
from statewise.report.page import Served, asset, content_policy, joined, page, template_environment
from statewise.store import RunFolder
from statewise.study.results import summarise
from statewise.study.rows import Results

HOST = "127.0.0.1"
SHARED = ("text.js", "theme.js")
FETCHES = "; connect-src 'self'"
HTML, JSON, TEXT = (
    "text/html; charset=utf-8",
    "application/json; charset=utf-8",
    "text/plain; charset=utf-8",
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back: a type, a body, the content policy of a page."""

    kind: str
    body: str
    policy: str = "default-src 'none'"
    code: HTTPStatus = HTTPStatus.OK


@dataclass(slots=True)
class Site:
    """The runs by the name that their address has, and what was made of them last."""

    runs: Mapping[str, Path]
    results: dict[str, tuple[live.Stamp, Results]] = field(default_factory=dict)
    reports: dict[str, tuple[live.Stamp, str]] = field(default_factory=dict)
    # Matplotlib's settings are the process's own, so one page is drawn at a time.
    drawing: threading.Lock = field(default_factory=threading.Lock)


def site_of(run_dirs: list[Path]) -> Site:
    """Runs under the names of their folders. Raises RunError for what is no run folder."""
    runs: dict[str, Path] = {}
    for run_dir in run_dirs:
        RunFolder(run_dir).must_exist()
        place = run_dir.resolve()
        # ASCII alone: a browser would ask for the others percent-encoded.
        name = re.sub(r"[^\w.-]", "-", place.name, flags=re.ASCII) or "run"
        count = 1
        while (f"{name}-{count}" if count > 1 else name) in runs:
            count += 1
        runs[f"{name}-{count}" if count > 1 else name] = place
    return Site(runs)


def serving(site: Site, port: int) -> ThreadingHTTPServer:
    """A server that is bound and not yet running. Raises ConfigError for a port that is none or is taken."""
    if not 0 <= port <= 65535:
        raise ConfigError(f"--port must be between 0 and 65535 (0 = a free one), found {port}")

    class Handler(_Handler):
        answers = site

    try:
        server = ThreadingHTTPServer((HOST, port), Handler)
    except OSError as error:
        raise ConfigError(f"--port {port}: {error}; 0 takes a free one") from error
    server.daemon_threads = True
    return server


class _Handler(BaseHTTPRequestHandler):
    answers: Site
    timeout = 30
    server_version = "statewise"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer, or say in one line why not."""
        port = self.connection.getsockname()[1]
        if self.headers.get("Host") not in (f"{HOST}:{port}", f"localhost:{port}"):
            self._send(_plain("this server answers to its own name only", HTTPStatus.FORBIDDEN))
            return
        try:
            self._send(answer(self.answers, self.path))
        except StatewiseError as error:
            self._send(_plain(str(error), HTTPStatus.CONFLICT))

    def _refuse(self) -> None:
        self._send(_plain("GET only", HTTPStatus.METHOD_NOT_ALLOWED))

    do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = _refuse  # noqa: N815

    def _send(self, found: Answer) -> None:
        body = found.body.encode()
        self.send_response(found.code)
        for name, value in {
            "Content-Type": found.kind,
            "Content-Length": str(len(body)),
            "Content-Security-Policy": f"{found.policy}; frame-ancestors 'none'",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the parameter's own name
        """No line a request: the terminal shows the address and nothing else."""


def answer(site: Site, target: str) -> Answer:
    """What a request for this path gets."""
    parts = urlsplit(target)
    if parts.path == "/":
        return _index(site)
    if parts.path == "/status.json":
        return _data({name: _status(path) for name, path in site.runs.items()})
    match = re.fullmatch(r"/runs/([\w.-]+)/(|verdicts\.json|items|items\.json)", parts.path)
    if match is None or match[1] not in site.runs:
        return _plain("there is no such page", HTTPStatus.NOT_FOUND)
    query = dict(parse_qsl(parts.query, max_num_fields=20))
    makers: dict[str, Callable[[], Answer]] = {
        "": lambda: _report(site, match[1]),
        "verdicts.json": lambda: _data(live.verdicts(_results(site, match[1]))),
        "items": lambda: _items(match[1]),
        "items.json": lambda: _data(page_of(site.runs[match[1]], query)),
    }
    return makers[match[2]]()


def _plain(text: str, code: HTTPStatus) -> Answer:
    return Answer(TEXT, f"{text}\n", code=code)


def _data(value: Any) -> Answer:
    return Answer(JSON, json.dumps(value, allow_nan=False))


def _status(run_dir: Path) -> dict[str, Any]:
    try:
        return live.status(run_dir)
    except StatewiseError as error:  # one damaged run must not hide the others
        return {"error": str(error)}


def _results(site: Site, name: str) -> Results:
    """Fresh results: made again only where a file has changed."""
    with site.drawing:
        return _summarised(site, name, live.stamp(site.runs[name]))


def _summarised(site: Site, name: str, now: live.Stamp) -> Results:
    if name not in site.results or site.results[name][0] != now:
        site.results[name] = (now, summarise(site.runs[name]))
    return site.results[name][1]


def _report(site: Site, name: str) -> Answer:
    with site.drawing:
        now = live.stamp(site.runs[name])
        if name not in site.reports or site.reports[name][0] != now:
            material = gather(site.runs[name], _summarised(site, name, now))
            served = Served("/", f"/runs/{name}/items")
            site.reports[name] = (now, page(material, sections.plates(material), served=served))
        text = site.reports[name][1]
    policy = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[0]
    return Answer(HTML, text, policy.replace("&#39;", "'"))


def _index(site: Site) -> Answer:
    return _shell("serve.html", (*SHARED, "serve.js"), runs=list(site.runs))


def _items(name: str) -> Answer:
    return _shell("items.html", (*SHARED, "items-page.js"), run=name)


def _shell(template: str, scripts: tuple[str, ...], **values: Any) -> Answer:
    """A page whose script fetches what it shows."""
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
    return Answer(HTML, text, policy)
