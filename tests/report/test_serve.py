"""`statewise serve` over a real socket: what it answers, and what it refuses."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import yaml

from statewise.errors import ConfigError, RunError
from statewise.report.server import serve
from statewise.report.server.listening import Limits
from statewise.report.server.progress import status
from statewise.report.server.serve import LIMITS, serving, site_of
from statewise.store.finished import MANIFESTS, fail, finish


class Client:
    """Raw requests, as a hostile client would write them."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(
        self,
        path: str,
        *,
        host: str | None = None,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, dict[str, str], str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.putrequest(method, path, skip_host=True)
        connection.putheader("Host", f"127.0.0.1:{self.port}" if host is None else host)
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, text

    def raw(self, text: bytes) -> bytes:
        """What comes back for these bytes; nothing where the server hangs up."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            with contextlib.suppress(OSError):
                connection.sendall(text)
                connection.shutdown(socket.SHUT_WR)
            found = b""
            with contextlib.suppress(ConnectionError):
                while part := connection.recv(65536):
                    found += part
            return found

    def data(self, path: str) -> Any:
        code, _, text = self.ask(path)
        assert code == 200, text
        return json.loads(text)


CROWD = Limits(request_seconds=2.0, answer_seconds=2.0, connections=12)


@contextlib.contextmanager
def served(*runs: Path, limits: Limits = LIMITS) -> Iterator[Client]:
    """A server of these runs on a free port, and its client."""
    server = serving(site_of(list(runs)), 0, limits)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield Client(server.port)
    finally:
        server.stop()
        thread.join()


@pytest.fixture(scope="module")
def client(whole: Any) -> Iterator[Client]:
    with served(whole.run) as found:
        yield found


@pytest.fixture(scope="module")
def small(synthetic: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server with few connections and short deadlines, of a run whose page is made fast."""
    run = tmp_path_factory.mktemp("small") / "small"
    with served(
        synthetic.make_run(run, arms=("base",), seeds=(0,), items=20), limits=CROWD
    ) as made:
        yield made


@pytest.fixture(scope="module")
def name(whole: Any) -> str:
    (found,) = site_of([whole.run]).runs
    return found


def test_only_its_own_name_is_answered(client: Client) -> None:
    assert client.ask("/")[0] == 200
    assert client.ask("/", host=f"localhost:{client.port}")[0] == 200
    for host in (
        "evil.example",
        f"evil.example:{client.port}",
        "127.0.0.1",
        "",
        f"127.0.0.1:{client.port}.evil",
    ):
        code, _, text = client.ask("/status.json", host=host)
        assert code == 403
        assert "pocket" not in text


def test_only_get_is_answered(client: Client) -> None:
    for method in ("HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        assert client.ask("/", method=method)[0] == 405
    assert client.ask("/", method="TRACE")[0] == 405


def test_other_sites_are_refused_and_links_are_followed(client: Client) -> None:
    own = f"http://127.0.0.1:{client.port}"
    link = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    for headers, code in (
        ({"Origin": own}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": f"{own}.evil"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),  # another port of this machine
        ({"Sec-Fetch-Site": "cross-site", **link}, 200),
        ({"Sec-Fetch-Site": "cross-site", **link, "Sec-Fetch-Dest": "iframe"}, 403),
        (
            {
                "Sec-Fetch-Site": "cross-site",
                "Sec-Fetch-Mode": "no-cors",
                "Sec-Fetch-Dest": "script",
            },
            403,
        ),
    ):
        for path in ("/status.json", "/events"):
            if path == "/events" and code == 200:
                continue  # it does not end
            found, _, text = client.ask(path, headers=headers)
            assert found == code, headers
            assert code == 200 or text == "this server answers its own pages only\n"


OWN = b"Host: 127.0.0.1:%d\r\n\r\n"
BAD_REQUESTS = {
    "no request line": b"\r\n\r\n",
    "one word": b"GET\r\n\r\n",
    "noise": bytes(range(256)) * 4 + b"\r\n\r\n",
    "of TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "four words": b"GET / / HTTP/1.1\r\n" + OWN,
    "no version": b"GET / FTP/1.1\r\n" + OWN,
    "a version beyond numbers": b"GET / HTTP/\xb2.\xb3\r\n" + OWN,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a torn line": b"GET / HTT",
    "a line too long": b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n" + OWN,
    "a header too long": b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000 + b"\r\n" + OWN,
    "too many headers": b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 500 + OWN,
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: evil.example\r\n" + OWN,
    "a host in other letters": b"GET / HTTP/1.1\r\nHost: \xff\xfe\r\n\r\n",
    "an address that is none": b"GET http://[::1 HTTP/1.1\r\n" + OWN,
    "an address with a torn bracket": b"GET http://] HTTP/1.1\r\n" + OWN,
    "another's address": b"GET http://evil.example/status.json HTTP/1.1\r\n" + OWN,
    "a NUL in the path": b"GET /runs/\x00/ HTTP/1.1\r\n" + OWN,
    "signs of percent": b"GET /runs/%zz%/%00%ff?%=%&%%% HTTP/1.1\r\n" + OWN,
    "bytes that are no UTF-8": b"GET /runs/\xff\xfe/?\xff=\xfe HTTP/1.1\r\n" + OWN,
    "a star": b"OPTIONS * HTTP/1.1\r\n" + OWN,
    "a tunnel": b"CONNECT evil.example:443 HTTP/1.1\r\n" + OWN,
    "a post": b"POST / HTTP/1.1\r\nContent-Length: 100000\r\n" + OWN + b"x" * 100_000,
    "a length that is none": b"POST / HTTP/1.1\r\nContent-Length: many\r\n" + OWN,
    "a header without a colon": b"GET /none HTTP/1.1\r\nnothing here\r\n" + OWN,
    "folded headers": b"GET /none HTTP/1.1\r\n  Host: x\r\n" + OWN,
}


@pytest.mark.parametrize("text", BAD_REQUESTS.values(), ids=BAD_REQUESTS)
def test_a_bad_request_is_refused_and_leaves_no_traceback(
    small: Client, capfd: pytest.CaptureFixture[str], text: bytes
) -> None:
    found = small.raw(text.replace(b"%d", b"%d" % small.port) if OWN in text else text)
    assert small.ask("/")[0] == 200
    assert capfd.readouterr() == ("", "")
    if found:  # else it was dropped
        line, _, rest = found.partition(b"\r\n")
        assert re.fullmatch(rb"HTTP/1\.[01] [45]\d\d .*", line), line
        head, _, body = rest.partition(b"\r\n\r\n")
        assert b"pocket" not in found
        if body == UVICORN:  # refused before there is a request: nothing in it is the client's
            assert re.fullmatch(
                rb"(?:content-type: text/plain; charset=utf-8|connection: close|\s)+", head.lower()
            )
            return
        for name in HARDENED:
            assert f"\n{name}:".encode() in b"\n" + head.lower(), name
        assert body.count(b"\n") <= 1
        assert body.decode() in REFUSALS


UVICORN = b"Invalid HTTP request received."
REFUSALS = (
    "GET only\n",
    "there is no such page\n",
    "this server answers to its own name only\n",
)
HARDENED = (
    "content-security-policy",
    "x-content-type-options",
    "referrer-policy",
    "cross-origin-resource-policy",
    "cache-control",
)


def test_every_answer_has_the_headers_of_the_page(small: Client) -> None:
    for path, method, host, code in (
        ("/", "GET", None, 200),
        ("/status.json", "GET", None, 200),
        ("/runs/small/", "GET", None, 200),
        ("/nothing", "GET", None, 404),
        ("/", "POST", None, 405),
        ("/", "HEAD", None, 405),
        ("/", "TRACE", None, 405),
        ("/", "GET", "evil.example", 403),
        ("/runs/small/items.json?colour=red", "GET", None, 409),
        (f"/runs/small/items.json?{'&'.join(f'a{i}=1' for i in range(99))}", "GET", None, 400),
    ):
        found, head, _ = small.ask(path, method=method, host=host)
        assert found == code
        assert set(HARDENED) <= set(head), (path, method)
        assert "frame-ancestors 'none'" in head["content-security-policy"]
        assert head["x-content-type-options"] == "nosniff"


def test_clients_that_drip_hold_up_nobody_and_go(
    small: Client, capfd: pytest.CaptureFixture[str]
) -> None:
    small.ask("/runs/small/")  # made once
    with contextlib.ExitStack() as stack:

        def connect(first: str) -> socket.socket:
            made = stack.enter_context(socket.socket())
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            made.settimeout(20)
            made.connect(("127.0.0.1", small.port))
            made.sendall(first.encode())
            return made

        own = f"Host: 127.0.0.1:{small.port}\r\n"
        # The deaf ask for more than their socket holds, and never read it.
        deaf = [connect(f"GET /runs/small/ HTTP/1.1\r\n{own}\r\n") for _ in range(8)]
        silent = [connect("") for _ in range(8)]
        dripping = [connect(f"GET / HTTP/1.1\r\n{own}") for _ in range(100)]
        began = time.monotonic()
        while time.monotonic() - began < CROWD.request_seconds + 1:
            asked = time.monotonic()
            assert small.ask("/status.json")[0] == 200
            assert time.monotonic() - asked < 5.0
            for each in dripping:
                with contextlib.suppress(OSError):
                    each.sendall(b"X")
            time.sleep(0.1)
        for each in (*silent, *dripping, *deaf):
            each.settimeout(CROWD.answer_seconds + 1)
            with contextlib.suppress(ConnectionError):
                while each.recv(1 << 16):  # a connection that stayed would time out here
                    pass
    assert capfd.readouterr().err == ""


def test_a_client_that_drips_alone_is_let_go(small: Client) -> None:
    began = time.monotonic()
    with (
        socket.create_connection(("127.0.0.1", small.port), timeout=20) as one,
        contextlib.suppress(OSError),
    ):
        while time.monotonic() - began < 20:
            one.sendall(b"G")
            time.sleep(0.05)
    assert CROWD.request_seconds - 0.5 < time.monotonic() - began < CROWD.request_seconds + 3


def test_a_broken_run_is_shown_beside_the_others(
    synthetic: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    good = synthetic.make_run(tmp_path / "good", arms=("base",), seeds=(0,), items=20)
    ways: dict[str, Callable[[Path], Any]] = {
        "gone": shutil.rmtree,
        "empty": lambda run: (run / "study.yaml").write_text(""),
        "text": lambda run: (run / "study.yaml").write_text("only words"),
        "torn": lambda run: (run / "study.yaml").write_text("name: [a\n  b: {"),
        "list": lambda run: (run / "study.yaml").write_text("- 1\n- 2\n"),
        "odd": lambda run: (run / "study.yaml").write_text("name: a\narms: 5\nseeds: x\n"),
        "bytes": lambda run: (run / "study.yaml").write_bytes(b"\xff\xfe\x00"),
        "rows": lambda run: _put(run / "arms/grpo/seed-0/metrics.jsonl", '{"loss": "high"}\n'),
        "row": lambda run: _put(run / "arms/grpo/seed-0/metrics.jsonl", "[1, 2]\n"),
    }
    runs = [synthetic.make_run(tmp_path / way, arms=(), seeds=(0,)) for way in ways]
    with served(good, *runs) as client:
        for run, damage in zip(runs, ways.values(), strict=True):
            damage(run)
        found = client.data("/status.json")
        assert found["good"]["arms"][0]["seeds"][0]["state"] == "done"
        for way in ways:
            assert "\n" not in found[way]["error"], way
            assert found[way]["error"], way
            for page in ("", "verdicts.json"):
                code, _, text = client.ask(f"/runs/{way}/{page}")
                assert code in (409, 500) or way in ("rows", "row"), (way, page, code)
                assert code == 200 or text.count("\n") == 1
        assert client.ask("/runs/good/")[0] == 200
    assert capfd.readouterr() == ("", "")


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    "path",
    [
        "/study.yaml",
        "/runs/",
        "/runs/{name}",
        "/runs/{name}/study.yaml",
        "/runs/{name}/../{name}/",
        "/runs/{name}/../../study.yaml",
        "/runs/../",
        "/runs/..",
        "/runs/%2e%2e/",
        "/runs/{name}/%2e%2e/study.yaml",
        "/runs/{name}/items/../../../etc/passwd",
        "//etc/passwd",
        "/runs/{name}/items.parquet",
        "/../../etc/passwd",
        "/runs/{name}/\x00",
    ],
)
def test_nothing_of_the_disk_can_be_named(client: Client, name: str, path: str) -> None:
    code, _, text = client.ask(quote(path.format(name=name), safe="/%."))
    assert code == 404
    assert text == "there is no such page\n"


def test_it_listens_on_loopback_alone(client: Client) -> None:
    addresses = {a[4][0] for a in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in addresses - {"127.0.0.1"}:
        if address.startswith("127."):
            continue  # another name of loopback
        with pytest.raises(ConnectionError):
            socket.create_connection((address, client.port), timeout=1).close()


def test_every_page_allows_its_own_script_alone(client: Client, name: str) -> None:
    for path in ("/", f"/runs/{name}/", f"/runs/{name}/items"):
        code, head, text = client.ask(path)
        assert code == 200
        policy = head["content-security-policy"]
        assert policy.startswith("default-src 'none'; ")
        assert policy.endswith("frame-ancestors 'none'")
        assert "unsafe" not in policy
        for tag in ("style", "script"):
            (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
            digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in policy
        assert head["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in head


def test_the_report_is_that_of_the_run_and_leads_back(
    client: Client, whole: Any, name: str
) -> None:
    text = client.ask(f"/runs/{name}/")[2]
    assert 'href="/">All runs' in text
    assert f'data-items="/runs/{name}/items"' in text
    assert whole.material.results.question in text
    assert "<script>window.evil" not in text


def test_status_says_how_far_each_arm_is(client: Client, name: str) -> None:
    run = client.data("/status.json")[name]
    assert run["study"] == "pocket"
    states = {arm["name"]: [s["state"] for s in arm["seeds"]] for arm in run["arms"]}
    assert states["base"] == ["done"]
    assert states["grpo"] == ["done"] * 3
    curves = next(a for a in run["arms"] if a["name"] == "grpo")["seeds"][0]["curves"]
    assert set(curves) == {"loss", "pocket_gsm", "reward_mean"}
    assert len(curves["loss"]) == 60
    assert curves["loss"][-1][0] == 200


def test_a_run_in_progress_is_served(synthetic: Any, tmp_path: Path) -> None:
    run = synthetic.make_run(tmp_path / "live", arms=("base", "grpo"), seeds=(0,), items=20)
    folder = run / "arms" / "stress_sft" / "seed-1"
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text('{"step": 1, "loss": 0.5}\n{"step": 2, "lo')  # torn
    (run / "arms" / "grpo" / "seed-0" / "budget.json").unlink()
    with served(run) as client:

        def state() -> dict[str, Any]:
            arms = client.data("/status.json")["live"]["arms"]
            return {
                (a["name"], s["seed"]): (s["state"], s["step"]) for a in arms for s in a["seeds"]
            }

        assert state()["stress_sft", 1] == ("training", 1)
        assert state()["grpo", 0] == ("measuring", 200)
        assert state()["mild_sft", 0] == ("waiting", 0)
        assert state()["base", 0] == ("done", None)
        with (folder / "metrics.jsonl").open("a") as file:
            file.write('ss": 0.4}\n')
        assert state()["stress_sft", 1] == ("training", 2)
        assert "unfinished" in client.ask("/runs/live/")[2]
        found = client.data("/runs/live/verdicts.json")
        assert {v["verdict"] for v in found} == {"undecided"}
        (folder / "metrics.jsonl").write_text("{broken}\n{}\n")
        assert "damaged" in client.data("/status.json")["live"]["error"]


def test_changes_of_a_run_arrive_as_events(
    synthetic: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "EVENT_SECONDS", 0.2)
    run = synthetic.make_run(tmp_path / "live", arms=("base",), seeds=(0,), items=20)
    rows = run / "arms" / "grpo" / "seed-0" / "metrics.jsonl"
    rows.parent.mkdir(parents=True)
    rows.write_text('{"step": 1, "loss": 0.5}\n')
    with served(run) as client:
        connection = http.client.HTTPConnection("127.0.0.1", client.port, timeout=30)
        connection.request("GET", "/events")
        answer = connection.getresponse()
        assert answer.getheader("Content-Type") == "text/event-stream; charset=utf-8"
        assert set(HARDENED) <= {name.lower() for name, _ in answer.getheaders()}

        def step() -> int:
            """The step of the next event; comments in between say that nothing has changed."""
            lines = iter(answer.readline, b"")
            data = next(line for line in lines if line.startswith(b"data: "))
            arms = json.loads(data.removeprefix(b"data: "))["live"]["arms"]
            return next(arm for arm in arms if arm["name"] == "grpo")["seeds"][0]["step"]

        assert step() == 1
        assert answer.readline() == b"\n"
        assert [answer.readline() for _ in range(4)] == [b": unchanged\n", b"\n"] * 2
        with rows.open("a") as file:
            file.write('{"step": 2, "loss": 0.4}\n')
        assert step() == 2
        connection.close()


def test_streams_are_limited_and_leave_room_for_requests(
    small: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "MOST_STREAMS", 2)
    monkeypatch.setattr(serve, "EVENT_SECONDS", 0.05)

    def stream() -> http.client.HTTPConnection:
        made = http.client.HTTPConnection("127.0.0.1", small.port, timeout=30)
        made.request("GET", "/events")
        return made

    two = [stream(), stream()]
    assert [each.getresponse().status for each in two] == [200, 200]
    code, _, text = small.ask("/events")
    assert (code, text) == (503, "too many pages are open\n")
    assert small.ask("/status.json")[0] == 200
    for each in two:
        each.close()
    for _ in range(100):  # a stream whose client has gone ends
        again = stream()
        code = again.getresponse().status
        again.close()
        if code == 200:
            return
        time.sleep(0.1)
    raise AssertionError("a stream goes on without its client")


def test_a_run_is_finished_live_or_stalled(synthetic: Any, tmp_path: Path) -> None:
    run = synthetic.make_run(tmp_path / "run", seeds=(0, 1, 2), items=20)
    old = time.time() - 7200
    assert status(run)["state"] == "finished"  # however lately it was written
    (run / "arms" / "grpo" / "seed-1" / "budget.json").unlink()
    assert status(run)["state"] == "live"
    for path in run.rglob("*"):
        os.utime(path, (old, old))
    assert status(run)["state"] == "stalled"
    with (run / ".lock").open("w") as lock:
        assert status(run)["state"] == "stalled"  # a lock file that nobody holds
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = status(run)
        assert held["state"] == ("live" if Path("/proc/locks").exists() else "stalled")
        assert held["idle_seconds"] > 7000


def test_an_arm_that_failed_is_done_and_what_learns_from_it_is_not_run(
    synthetic: Any, tmp_path: Path
) -> None:
    arms = ("base", "mild_sft", "grpo", "opd_from_mild")
    run = synthetic.make_run(tmp_path / "run", arms=arms, seeds=(0, 1, 2), items=20)
    study = yaml.safe_load((run / "study.yaml").read_text())
    streams = [{"source": {"kind": "learner", "teacher": "stress_sft"}}]
    study["arms"] = [
        *(arm for arm in study["arms"] if arm["name"] in (*arms, "stress_sft")),
        {"name": "student", "streams": streams},
        {"name": "its_student", "start": "student"},
    ]
    (run / "study.yaml").write_text(yaml.safe_dump(study))
    for seed in (0, 1, 2):
        folder = run / "arms" / "stress_sft" / f"seed-{seed}"
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text('{"step": 7, "loss": 0.5}\n')
    assert status(run)["state"] == "live"
    for seed in (0, 1, 2):
        fail(run / "arms" / "stress_sft" / f"seed-{seed}", "its weights are not finite", 7)
    found = status(run)
    seeds = {arm["name"]: arm["seeds"][1] for arm in found["arms"] if arm["name"] != "base"}
    assert {name: (s["state"], s["why"]) for name, s in seeds.items()} == {
        **dict.fromkeys(("mild_sft", "grpo", "opd_from_mild"), ("done", None)),
        "stress_sft": ("failed", "its weights are not finite (step 7)"),
        "student": ("not run", "stress_sft has failed"),
        "its_student": ("not run", "stress_sft has failed"),
    }
    assert found["state"] == "finished"


def test_a_run_whose_manifest_lacks_a_file_is_not_finished(synthetic: Any, tmp_path: Path) -> None:
    """`run` would do the job again; a server that looks only for its last file says that nothing is left."""
    run = synthetic.make_run(tmp_path / "run", arms=("base", "grpo"), seeds=(0,), items=20)
    study = yaml.safe_load((run / "study.yaml").read_text())
    study["arms"] = [arm for arm in study["arms"] if arm["name"] == "grpo"]
    (run / "study.yaml").write_text(yaml.safe_dump(study | {"seeds": [0], "claims": []}))
    (run / "environment.json").write_text(json.dumps({"manifests": MANIFESTS}))
    grpo = run / "arms" / "grpo" / "seed-0"
    (grpo / "policy").mkdir()
    (grpo / "policy" / "statewise.json").write_text('{"steps": 1}')
    finish(grpo, "train")

    def states() -> list[str]:
        return [seed["state"] for arm in status(run)["arms"] for seed in arm["seeds"]]

    assert states() == ["measuring", "measuring"]  # all is written, the manifest is not
    finish(grpo, "measure")
    finish(run / "arms" / "base" / "seed-0", "measure")
    assert (states(), status(run)["state"]) == (["done", "done"], "finished")
    for path in run.rglob("*"):
        os.utime(path, (0, 0))
    idle = status(run)["idle_seconds"]
    assert idle > 1000, "looking at a run is no work on it"
    drift = (grpo / "drift.json").read_bytes()
    (grpo / "drift.json").unlink()
    assert (states(), status(run)["state"]) == (["done", "measuring"], "stalled")
    (grpo / "drift.json").write_bytes(drift[:-1] + b" ")
    with pytest.raises(RunError, match=r"drift\.json is damaged"):
        status(run)
    (grpo / "drift.json").write_bytes(drift)
    (grpo / "metrics.jsonl").unlink()
    assert states() == ["done", "waiting"]


def test_losses_are_named_and_runs_are_compared_by_their_tasks(client: Client, name: str) -> None:
    arms = {arm["name"]: arm for arm in client.data("/status.json")[name]["arms"]}
    assert {
        n: (a["loss"], a["surrogate"]) for n, a in arms.items() if "sft" in n or n == "grpo"
    } == {
        "mild_sft": ("cross_entropy", False),
        "stress_sft": ("cross_entropy", False),
        "grpo": ("clipped_surrogate", True),
    }
    assert arms["one_step_opd_from_stress"]["loss"] == "kl_student_teacher"
    assert arms["grpo"]["rewards"] == {"reward_mean": "exact_answer"}
    found = client.data(f"/runs/{name}/scores.json")
    assert found["target"] == "pocket_gsm"
    assert found["retention"] == ["pocket_truthfulqa_mc1", "pocket_mmlu"]
    points = {arm["name"]: arm for arm in found["arms"]}
    value, low, high = points["stress_sft"]["target"]
    assert low < value < high
    assert value < points["base"]["target"][0]


def test_nulls_stand_beside_arms_and_no_arm_does_more_than_its_budget(
    synthetic: Any, tmp_path: Path
) -> None:
    run = synthetic.make_run(tmp_path / "run", arms=("base",), seeds=(0,), items=20)
    study = yaml.safe_load((run / "study.yaml").read_text())
    study["arms"] = [
        {"name": "mild", "budget": {"steps": 90}},
        {"name": "long", "budget": {"epochs": 2}},
    ]
    study["nulls"] = [
        {"kind": "interpolation", "name": "between", "between": ["base", "mild"]},
        {"kind": "early_stop", "name": "early", "of": "long", "matched_to": "mild"},
    ]
    study["seeds"] = [0, 1]
    (run / "study.yaml").write_text(yaml.safe_dump(study))

    def write(place: str, text: str) -> Path:
        path = run / "arms" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    # Seed 0 of `mild` was taken at step 10; of `long`, whose 40 steps no file declares, at 30.
    write("mild/seed-0/policy/statewise.json", '{"steps": 10, "steps_declared": 90}')
    write("mild/seed-1/metrics.jsonl", '{"step": 45, "loss": 0.5}\n')
    write("long/seed-0/policy/statewise.json", '{"steps": 30, "steps_declared": 40}')
    write("early/seed-1/metrics.jsonl", '{"step": 8, "loss": 0.5}\n')
    write("between/seed-1/match.json", "{}")
    arms = status(run)["arms"]
    assert [arm["name"] for arm in arms] == ["base", "mild", "long", "between", "early"]
    found = {
        (arm["name"], s["seed"]): (s["state"], s["step"], s["steps"])
        for arm in arms
        for s in arm["seeds"]
    }
    assert found["mild", 1] == ("training", 45, 90)
    assert found["long", 1] == ("waiting", 0, 40)
    assert found["early", 1] == ("training", 8, 40)
    assert found["between", 0] == ("waiting", None, None)
    assert found["between", 1] == ("interpolating", None, None)

    for path in run.rglob("*"):
        os.utime(path, (0, 0))
    assert status(run)["idle_seconds"] > 1000
    write("mild/seed-0/probing/locality.json", "[]")
    assert status(run)["idle_seconds"] < 1000


def test_items_by_page_and_filter(client: Client, name: str) -> None:
    place = f"/runs/{name}/items.json"
    every = client.data(place)
    assert every["total"] == (8 * 3 + 1) * (60 + 60 + 120 + 120)
    assert len(every["rows"]) == 50
    assert every["facets"]["seed"] == ["0", "1", "2"]
    one = client.data(f"{place}?arm=grpo&seed=1&task=pocket_gsm&decoding=greedy")
    assert one["total"] == 60
    assert {(r["arm"], r["seed"], r["task"], r["decoding"]) for r in one["rows"]} == {
        ("grpo", 1, "pocket_gsm", "greedy")
    }
    second = client.data(f"{place}?arm=grpo&seed=1&task=pocket_gsm&decoding=greedy&page=1")
    ids = [r["item_id"] for part in (one, second) for r in part["rows"]]
    assert len(set(ids)) == 60
    right = client.data(f"{place}?arm=grpo&outcome=right")["total"]
    wrong = client.data(f"{place}?arm=grpo&outcome=wrong")["total"]
    assert right + wrong == client.data(f"{place}?arm=grpo")["total"]
    assert client.data(f"{place}?item={ids[7]}&arm=grpo&seed=1&decoding=greedy")["total"] == 1
    assert client.data(f"{place}?find=WINDOW.EVIL")["total"] == every["total"]
    assert client.data(f"{place}?find=nothing-of-the-kind")["total"] == 0
    assert client.data(f"{place}?arm=nobody")["total"] == 0
    assert client.data(f"{place}?outcome=cut&arm=one_step_opd_from_stress")["total"] > 200


def test_a_wrong_filter_is_told(client: Client, name: str) -> None:
    for query, word in (("colour=red", "no filter 'colour'"), ("page=x", "page must be a number")):
        code, _, text = client.ask(f"/runs/{name}/items.json?{query}")
        assert code == 409
        assert word in text


def test_runs_of_one_name_are_told_apart(synthetic: Any, tmp_path: Path) -> None:
    for side in ("a", "b"):
        synthetic.make_run(tmp_path / side / "pocket", arms=())
    found = site_of([tmp_path / "a" / "pocket", tmp_path / "b" / "pocket"]).runs
    assert list(found) == ["pocket", "pocket-2"]
    synthetic.make_run(tmp_path / "größe Ж", arms=())
    assert list(site_of([tmp_path / "größe Ж"]).runs) == ["gr--e--"]


def test_what_is_no_run_and_a_taken_port_are_refused(whole: Any, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is no run folder: it has no study\.yaml"):
        site_of([tmp_path])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"--port {port}: .*; 0 takes a free one"):
            serving(site_of([whole.run]), port)
    with pytest.raises(ConfigError, match=r"--port must be between 0 and 65535 .*, found 99999"):
        serving(site_of([whole.run]), 99_999)


def test_the_command_prints_its_address_and_answers(whole: Any) -> None:
    command = [sys.executable, "-m", "statewise", "serve", str(whole.run), "--port", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            port = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/  \(Ctrl-C ends it\)\n", line)
            assert port is not None, line
            assert Client(int(port[1])).ask("/")[0] == 200
        finally:
            # Not SIGINT: a child of a shell's background job inherits that it is ignored.
            process.terminate()
            try:
                code = process.wait(timeout=20)
            finally:
                process.kill()
        assert code == 0
