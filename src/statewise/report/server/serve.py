"""`statewise serve`: whole and live runs in a browser on this machine.

Bound to 127.0.0.1 (`listening.py`). What it answers, all by GET:

    /                            every run side by side: progress, curves, verdicts
    /status.json                 the same as data, asked for every two seconds
    /runs/NAME/                  the run's report, made in memory when it is asked for
    /runs/NAME/verdicts.json     verdicts so far
    /runs/NAME/scores.json       target and retention of each arm so far: the points of the common figure
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
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from markupsafe import Markup

from statewise.errors import StatewiseError
from statewise.report.figures import catalogue, theme
from statewise.report.inputs import gather
from statewise.report.page.html import (
    Served,
    asset,
    content_policy,
    joined,
    page,
    template_environment,
)
from statewise.report.server import progress
from statewise.report.server.items import page_of
from statewise.report.server.listening import Answer, Limits, listening, plain_answer
from statewise.results.summary import summarise
from statewise.results.types import Results
from statewise.store import RunFolder

SHARED = ("text.js", "theme.js")
FETCHES = "; connect-src 'self'"
LIMITS = Limits()
HTML, JSON = "text/html; charset=utf-8", "application/json; charset=utf-8"


@dataclass(slots=True)
class Site:
    """The runs by the name that their address has, and what was made of them last."""

    runs: Mapping[str, Path]
    results: dict[str, tuple[progress.Stamp, Results]] = field(default_factory=dict)
    reports: dict[str, tuple[progress.Stamp, str]] = field(default_factory=dict)
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


def serving(site: Site, port: int, limits: Limits = LIMITS) -> ThreadingHTTPServer:
    """A server that is bound and not yet running. Raises ConfigError for a port that cannot be had."""
    return listening(lambda target: answered(site, target), port, limits)


def answered(site: Site, target: str) -> Answer:
    """What a request gets, a fault included: one line, for one broken run must not end the others."""
    try:
        return answer(site, target)
    except StatewiseError as error:
        return plain_answer(str(error), HTTPStatus.CONFLICT)
    except Exception as error:  # noqa: BLE001 - shown as what it is, and nothing is computed from it
        return plain_answer(_fault(error), HTTPStatus.INTERNAL_SERVER_ERROR)


def _fault(error: Exception) -> str:
    return f"this cannot be shown: {type(error).__name__}: {' '.join(str(error).split())}"


def answer(site: Site, target: str) -> Answer:
    """What a request for this path gets."""
    parts = urlsplit(target)
    if parts.path == "/":
        return _index(site)
    if parts.path == "/status.json":
        return _data({name: _status(path) for name, path in site.runs.items()})
    match = re.fullmatch(
        r"/runs/([\w.-]+)/(|verdicts\.json|scores\.json|items|items\.json)", parts.path
    )
    if match is None or match[1] not in site.runs:
        return plain_answer("there is no such page", HTTPStatus.NOT_FOUND)
    try:
        query = dict(parse_qsl(parts.query, max_num_fields=20))
    except ValueError:
        return plain_answer("more filters than there are", HTTPStatus.BAD_REQUEST)
    makers: dict[str, Callable[[], Answer]] = {
        "": lambda: _report(site, match[1]),
        "verdicts.json": lambda: _data(progress.verdicts(_results(site, match[1]))),
        "scores.json": lambda: _data(progress.together(_results(site, match[1]))),
        "items": lambda: _items(match[1]),
        "items.json": lambda: _data(page_of(site.runs[match[1]], query)),
    }
    return makers[match[2]]()


def _data(value: Any) -> Answer:
    return Answer(JSON, json.dumps(value, allow_nan=False))


def _status(run_dir: Path) -> dict[str, Any]:
    try:
        return progress.status(run_dir)
    except StatewiseError as error:  # one damaged run must not hide the others
        return {"error": " ".join(str(error).split())}
    except Exception as error:  # noqa: BLE001 - nor one that is damaged in a way nobody thought of
        return {"error": _fault(error)}


def _results(site: Site, name: str) -> Results:
    """Fresh results: made again only where a file has changed."""
    with site.drawing:
        return _summarised(site, name, progress.stamp(site.runs[name]))


def _summarised(site: Site, name: str, now: progress.Stamp) -> Results:
    if name not in site.results or site.results[name][0] != now:
        site.results[name] = (now, summarise(site.runs[name]))
    return site.results[name][1]


def _report(site: Site, name: str) -> Answer:
    with site.drawing:
        now = progress.stamp(site.runs[name])
        if name not in site.reports or site.reports[name][0] != now:
            material = gather(site.runs[name], _summarised(site, name, now))
            served = Served("/", f"/runs/{name}/items")
            site.reports[name] = (now, page(material, catalogue.plates(material), served=served))
        text = site.reports[name][1]
    policy = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[0]
    return Answer(HTML, text, policy.replace("&#39;", "'"))


def _index(site: Site) -> Answer:
    return _shell("serve.html", (*SHARED, "together.js", "serve.js"), runs=list(site.runs))


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
