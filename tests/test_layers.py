"""Imports only point down: the layers of docs/design.md, read from the source.

Every import counts, also inside a function and under TYPE_CHECKING: a layer that needs a name from
above is in the wrong place, however late it asks for it.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from statewise.store import layout

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "statewise"

LAYERS = {
    "errors": 0,
    "names": 0,
    "sandbox": 0,
    "streams": 0,
    "user_code": 0,
    "files": 0,
    "limits": 0,
    "config": 0,
    "reading": 0,
    "seeding": 0,
    "store": 0,
    "formatting": 0,
    "visible": 0,
    "terminal": 0,
    "yaml12": 0,
    "studies": 0,
    # the reader's wing
    "stats": 0,
    "claims": 1,
    "results": 2,
    "report": 3,
    # the core
    "lazy": 1,
    "logits": 1,
    "trajectory": 1,
    "signals": 1,
    "cpu_shards": 1,
    "testing": 2,
    "trajectory_store": 2,
    "data": 2,
    "templates": 2,
    "rewards": 2,
    "world": 2,
    "packed_forward": 2,
    "policy": 3,
    "random_model": 3,
    "rollout": 3,
    "sources": 4,
    "supervision": 4,
    "objectives": 4,
    "arms": 5,
    "memory": 5,
    "gradient": 5,
    "ranks": 5,
    "train": 6,
    "probes": 6,
    "evaluate": 6,
    # the maker's wing
    "study": 7,
    "probing": 8,
    "jobs": 9,
    "check": 10,
    "cli": 11,
    "__main__": 11,
}
AXES = {"sources", "supervision", "objectives"}
MAY_IMPORT = {
    "transformers": {"policy", "random_model", "rollout"},
    "peft": {"policy"},
    "lm_eval": {"evaluate"},
    "matplotlib": {"report"},
}
"""Libraries that one place wraps; everyone else speaks to that place."""
TORCH_FREE = {name for name, layer in LAYERS.items() if layer == 0} | {
    "world",
    "claims",
    "results",
    "report",
}
IMPORTS_TORCH = {"torch", "transformers", "peft", "accelerate", "lm_eval"}


def sources(package: Path = PACKAGE) -> dict[str, str]:
    """Source text by module name: `statewise.rollout.hf` -> text."""
    found = {}
    for file in sorted(package.rglob("*.py")):
        parts = (package.name, *file.relative_to(package).with_suffix("").parts)
        found[".".join(part for part in parts if part != "__init__")] = file.read_text("utf-8")
    return found


def imports(name: str, text: str, modules: Mapping[str, str]) -> set[str]:
    """Modules that a source imports: ours by full name, others by their first part."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            assert node.level == 0, f"{name}, line {node.lineno}: relative import; write it in full"
            for alias in node.names:
                # `from statewise.sources import rollout` may name a module or a function.
                full = f"{base}.{alias.name}"
                is_version = full == "statewise.__version__"
                found |= {full} if full in modules else set() if is_version else {base}
    return {
        target if target.split(".")[0] == "statewise" else target.split(".")[0] for target in found
    }


def group(module: str) -> str:
    """The row of the table that a module belongs to; `statewise` itself is the empty string."""
    return [*module.split("."), ""][1]


def reaches(start: str, graph: Mapping[str, set[str]]) -> dict[str, list[str]]:
    """Everything that importing `start` may import, each with the chain that leads to it."""
    chains: dict[str, list[str]] = {}
    waiting = [(start, [start])]
    while waiting:
        module, chain = waiting.pop()
        if module in chains:
            continue
        chains[module] = chain
        parents = [module.rsplit(".", depth)[0] for depth in range(1, module.count(".") + 1)]
        waiting += [(target, [*chain, target]) for target in [*graph.get(module, ()), *parents]]
    return chains


def violations(modules: Mapping[str, str]) -> list[str]:
    """Every broken rule as one line; empty when the layers hold."""
    graph = {name: imports(name, text, modules) for name, text in modules.items()}
    broken = [
        f"{name}: in no layer; add it to LAYERS"
        for name in graph
        if group(name) not in LAYERS and name != "statewise"
    ]
    for name, targets in graph.items():
        own = group(name)
        for target in sorted(targets):
            other = group(target)
            if target in MAY_IMPORT:
                if own not in MAY_IMPORT[target]:
                    may = ", ".join(sorted(MAY_IMPORT[target]))
                    broken.append(f"{name} imports {target}: only {may} may")
            elif target == "statewise" and name != "statewise":
                broken.append(f"{name} imports the package root: name the module")
            elif target.startswith("statewise.") and own in LAYERS and other in LAYERS:
                if LAYERS[other] > LAYERS[own]:
                    broken.append(f"{name} ({LAYERS[own]}) imports {target} ({LAYERS[other]})")
                elif own in AXES and other in AXES and own != other:
                    broken.append(f"{name} imports {target}: axes never import each other")
        if own in TORCH_FREE:
            chains = reaches(name, graph)
            broken += [
                f"{name} reaches {bad}: {' -> '.join(chains[bad])}"
                for bad in sorted(IMPORTS_TORCH & chains.keys())
            ]
    return broken


def test_the_layers_hold() -> None:
    assert violations(sources()) == []


def test_torch_free_modules_run_without_torch() -> None:
    """The same claim asked of the interpreter: what is imported in fact, third parties included."""
    names = [name for name in sources() if group(name) in TORCH_FREE and "__main__" not in name]
    program = (
        f"import importlib, sys; sys.path.insert(0, {str(PACKAGE.parent)!r})\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        "    bad = {'torch', 'transformers'} & set(sys.modules)\n"
        "    assert not bad, f'{name} loaded {bad}'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


CLEAN = {
    "statewise": "",
    "statewise.errors": "",
    "statewise.report.page.html": "import statewise.stats",
}


@pytest.mark.parametrize(
    ("module", "text", "expected"),
    [
        ("stats", "from statewise.trajectory import States", "statewise.stats (0) imports"),
        ("stats", "def f():\n    import statewise.train", "statewise.stats (0) imports"),
        (
            "stats",
            "if TYPE_CHECKING:\n    from statewise import train",
            "statewise.stats (0) imports",
        ),
        ("sources.own", "from statewise.objectives.kl import kl", "axes never import each other"),
        ("train", "from transformers import Trainer", "only policy, random_model, rollout may"),
        ("train", "import transformers.models.qwen3", "only policy, random_model, rollout may"),
        ("study.jobs", "from lm_eval.tasks import TaskManager", "only evaluate may"),
        ("train", "from statewise import States", "imports the package root"),
        ("store", "import torch.nn as nn", "statewise.store reaches torch"),
        (
            "world.text",
            "from statewise.trajectory import Prompt",
            "statewise.world.text reaches torch",
        ),
        ("managers", "", "statewise.managers: in no layer"),
        (
            "report.page",
            "from statewise.study.verdict import v",
            "-> statewise.study.verdict -> torch",
        ),
        ("report.page", "from statewise.study.verdict import v", "-> statewise.study -> "),
    ],
)
def test_a_planted_violation_is_found(module: str, text: str, expected: str) -> None:
    others = {
        "statewise.trajectory": "import torch",
        "statewise.train": "",
        "statewise.cli.main": "",
        "statewise.objectives.kl": "",
        "statewise.study": "import accelerate",
        "statewise.study.verdict": "import torch",
    }
    assert violations(CLEAN | others) == []
    found = violations(CLEAN | others | {f"statewise.{module}": text})
    assert any(expected in line for line in found), found


def test_what_points_down_is_allowed() -> None:
    modules = CLEAN | {
        "statewise.stats": "from statewise import __version__\nimport statewise.errors",
        "statewise.policy": "from transformers import AutoModelForCausalLM",
        "statewise.sources.own": "from statewise.sources import other\nimport statewise.rollout",
        "statewise.sources.other": "",
        "statewise.rollout": "import transformers",
    }
    assert violations(modules) == []


def literal_names(modules: Mapping[str, str]) -> list[str]:
    """Names of a run folder's files that are written out in a module other than `store/layout.py`.

    `evaluate/` knows no run folder: its example of a file for `--out` may have the same name.
    """
    names = {
        value
        for key, value in vars(layout).items()
        if key.isupper() and isinstance(value, str) and "." in value
    }
    return [
        f"{name}, line {node.lineno}: {node.value!r}; take it from store/layout.py"
        for name, text in modules.items()
        if name not in ("statewise.store.layout", "statewise.evaluate.continued")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Constant) and node.value in names
    ]


def test_a_file_name_of_a_run_folder_is_written_once() -> None:
    assert literal_names(sources()) == []


def test_a_planted_file_name_is_found() -> None:
    planted = {"statewise.jobs.train": "path = folder / 'metrics.jsonl'"}
    assert literal_names(planted) == [
        "statewise.jobs.train, line 1: 'metrics.jsonl'; take it from store/layout.py"
    ]
