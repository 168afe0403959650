"""A marker in every string that a stranger may write, and what the interpreter opens, imports and runs of it.

    python -m tests.audited FOLDER BASE        FOLDER is empty, BASE a small model directory

Prints one JSON document: `heard`, the events that named the marker outside of the doors, and `codes`, how the
commands ended. Run by `tests/test_audit.py` in a process of its own, since an audit hook stays for good.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import http.client
import io
import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.conftest import SHRINK

MARK = "plantedmark"
WATCHED = (
    "open",
    "import",
    "exec",
    "compile",
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "ctypes.dlopen",
)
PATH = "/proc/self/cwd_x"
"""A task's name that is a path: the harness looks for it in the folder before the first underscore."""
REACH = "{{ cycler.__init__.__globals__.os.system('touch " + MARK + "') }}"


class Audit:
    """Events that name the marker, but for the doors."""

    def __init__(self) -> None:
        self.doors: list[Path] = []
        self.heard: list[str] = []
        self.busy = False
        """True while the marker is named by this file, and not by what it listens to."""

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if self.busy or event not in WATCHED:
            return
        self.busy = True
        try:
            self._hear(event, args)
        finally:
            self.busy = False

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        named = f"{args[0].co_filename} {args[0].co_name}" if event == "exec" else repr(args)
        if MARK in named and not self._door(event, args):
            self.heard.append(f"{event} {named[:300]}")

    def _door(self, event: str, args: tuple[Any, ...]) -> bool:
        if event == "open" and isinstance(args[0], str | bytes | os.PathLike):
            # What the user named to be read or written: the run folder, the study file, the data, the model.
            place = Path(os.path.abspath(os.fsdecode(args[0])))  # noqa: PTH100  links stay as they are
            return any(place.is_relative_to(door) for door in self.doors)
        if event == "compile" and args[1] == "<template>":
            # The sandbox compiles a template's own text as constants, and as nothing else.
            tree = ast.parse(args[0])
            words = [getattr(node, "id", getattr(node, "attr", "")) for node in ast.walk(tree)]
            return not any(MARK in str(word) for word in words)
        return False


def leaves(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of the strings in plain data."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(item, (*at, key))
    elif isinstance(value, str):
        yield at


def planted(plain: Any, at: tuple[Any, ...], text: str) -> Any:
    """A copy with another string at a path."""
    found = copy.deepcopy(plain)
    place = found
    for key in at[:-1]:
        place = place[key]
    place[at[-1]] = text
    return found


def payloads(folder: Path) -> list[str]:
    """What a stranger may write where a word is expected."""
    return [
        str(folder / f"{MARK}.yaml"),
        f"../{folder.name}/{MARK}.yaml",
        f"{MARK}:f",
        f"{folder}/{MARK}.py:f",
        REACH,
        PATH,
        MARK,
    ]


def read_all(study: dict[str, Any], folder: Path) -> int:
    """Read the study with each payload in each kind of place."""
    from statewise.config import from_plain
    from statewise.errors import StatewiseError
    from statewise.study.spec import Study
    from statewise.user_code import seal

    kinds = {tuple(key for key in at if isinstance(key, str)): at for at in leaves(study)}
    for at in kinds.values():
        for text in payloads(folder):
            with contextlib.suppress(StatewiseError):
                from_plain(Study, seal(planted(study, at, text), trust=False))
    return len(kinds)


def main(root: Path, tiny: Path) -> dict[str, Any]:
    """Plant, run, and say what was heard."""
    audit = Audit()
    folder = root / "planted"
    folder.mkdir()
    (folder / f"{MARK}.py").write_text(f"open({str(root / 'ran')!r}, 'w')\ndef f(*_): return 1.0\n")
    (folder / f"{MARK}.yaml").write_text(
        f"task: {PATH}\ndataset_path: json\ndoc_to_text: !function {MARK}.f\n"
    )
    base = root / "base"
    shutil.copytree(tiny, base)
    for name, more in {
        "config.json": {"note": REACH, "_name_or_path": str(folder / MARK)},
        "tokenizer_config.json": {"chat_template": REACH, "note": str(folder / f"{MARK}.py")},
    }.items():
        known = json.loads((base / name).read_text())
        (base / name).write_text(json.dumps(known | more))
    rows = [{"question": f"{REACH} {n}?", "answer": f"{MARK}.f #### {n}"} for n in range(4)]
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    run, file = root / "run", root / "study.yaml"
    audit.doors = [run, root / "other"]

    from statewise.cli.main import main as command
    from statewise.config import to_plain
    from statewise.report.server.serve import serving, site_of
    from statewise.study.spec import read_study
    from statewise.yaml12 import dump_yaml, load_yaml

    plain = to_plain(read_study("pocket", (f"base={base}", *SHRINK)))
    sys.addaudithook(audit)
    places = read_all(plain, folder)

    arm = next(a for a in plain["arms"] if a["name"] == "mild_sft")
    arm["name"] = f"{MARK}_sft"
    arm["budget"] |= {"steps": 1, "epochs": None}
    arm["streams"][0] |= {
        "prompts": {
            "kind": "jsonl",
            "path": str(root / "rows.jsonl"),
            "template": {"prompt": MARK + " {question}", "completion": " {answer}"},
        },
        "prompts_per_step": 2,
    }
    for task in plain["tasks"]:
        task |= {"limit": 2, "sampled": False, "label": f"{MARK} {task['name']}"}
    target = next(t for t in plain["tasks"] if t["role"] == "target")
    target["prompt"] = MARK + " {{ question }}" + target["name"]
    plain |= {
        "name": f"{MARK}-study",
        "question": REACH,
        "notes": [REACH, str(folder / f"{MARK}.py")],
        "arms": [arm],
        "claims": [
            {
                "kind": "retains",
                "name": f"{MARK} claim",
                "text": REACH,
                "arm": arm["name"],
                "unit": "items",
            }
        ],
    }
    plain |= {"doses": {}, "search": None, "match": None, "nulls": [], "probes": None, "dev": None}
    file.write_text(dump_yaml(plain))
    codes: dict[str, Any] = {"places": places}

    def say(name: str, *arguments: str) -> None:
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                codes[name] = command(arguments)
            except SystemExit as end:
                codes[name] = end.code
            except Exception as error:  # noqa: BLE001  reported as it is: another test's matter, and never 0
                codes[name] = repr(error)[:300]
        if codes[name] == 2:
            codes[f"{name} said"] = said.getvalue()[-500:]

    study, short = str(file), ["--max-new-tokens", "4"]
    say("dry run", "run", study, "--dry-run")
    say("plan", "plan", study, "--steps", "0")
    say("check", "check", study, "--items", "2", "--run", str(run / "none"))
    say("check", "check", study, "--items", "2")
    say(
        "train",
        "train",
        study,
        "--arm",
        arm["name"],
        "--out",
        str(root / "other"),
        "--workers",
        "0",
    )
    say("run", "run", study, "--out", str(run), "--workers", "0")
    say("report", "report", str(run))
    say("states", "states", str(run), "--limit", "2", "--retention-limit", "1", *short)
    say("probe", "probe", str(run), "--probe", "behaviour")
    say("eval", "eval", str(base), "--task", "pocket_mmlu", "--limit", "2")
    with serving(site_of([run]), 0) as server:
        threading.Thread(target=server.run, daemon=True).start()
        for page in ("/", "/status.json", "/runs/run/", "/runs/run/items.json"):
            connection = http.client.HTTPConnection("127.0.0.1", server.port)
            connection.request("GET", page)
            codes[f"serve {page}"] = connection.getresponse().status
            connection.close()
        server.stop()

    # The same folder as a stranger may send it: names that are paths, code, and templates that reach.
    whole = load_yaml(run / "study.yaml")
    reward = {"kind": "python", "function": f"{folder}/{MARK}.py:f"}
    for number, (at, text) in enumerate(
        [
            (("tasks", 1, "name"), PATH),
            (("tasks", 0, "prompt"), REACH),
            (("tasks", 1, "prompt"), REACH),
            (("arms", 0, "name"), f"../../planted/{MARK}"),
            (("arms", 0, "streams", 0, "source"), reward | {"supervised": ["dataset"]}),
        ]
    ):
        (run / "study.yaml").write_text(dump_yaml(planted(whole, at, text)))
        for name in ("states", "probe", "report"):
            more = {
                "states": ["--limit", "2", "--retention-limit", "1", "--overwrite", *short],
                "probe": ["--probe", "gradients" if number == 4 else "behaviour"],
            }
            say(f"{name} of a stranger {number}", name, str(run), *more.get(name, []))
    for name in ("config.json", "tokenizer_config.json"):
        known = json.loads((base / name).read_text())
        mapped = dict.fromkeys(("AutoConfig", "AutoModelForCausalLM"), f"{MARK}.f")
        known["auto_map"] = mapped | {"AutoTokenizer": [f"{MARK}.f", None]}
        (base / name).write_text(json.dumps(known))
    audit.busy = True
    shutil.copy(folder / f"{MARK}.py", base)
    audit.busy = False
    say("eval of a stranger", "eval", str(base), "--task", "pocket_mmlu", "--limit", "2")
    return {"heard": audit.heard, "codes": codes, "ran": (root / "ran").exists()}


if __name__ == "__main__":
    found = main(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
