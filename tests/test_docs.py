"""`docs/glossary.md` names what a run writes and nothing else; `docs/pitfalls.md` names tests that exist;
`docs/methods.md` is what its generator writes; public callables of the axes have examples.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import json
import pkgutil
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args
from unittest import mock

import pyarrow.parquet as pq
import pytest

from docs import generate as generator
from statewise import arms
from statewise.arms import Arm, Budget, Method, gkd, with_replay
from statewise.check import check_study
from statewise.check.show import plain
from statewise.claims.claim import Exceeds
from statewise.claims.controls import EarlyStop, Interpolation, Match
from statewise.claims.power import Assumed, plan_claims
from statewise.cli.tables.plan import plan_plain
from statewise.cli.tables.results import _tables
from statewise.jobs.costs import measure_costs, sizes
from statewise.jobs.executor import run_study
from statewise.jobs.search import search
from statewise.jobs.train import train_arm
from statewise.objectives import Objective
from statewise.policy import PolicyRef
from statewise.report import write_report
from statewise.report.figures.catalogue import plates
from statewise.report.inputs import gather
from statewise.results.summary import summarise, write_results
from statewise.rewards import Judged, MathVerify
from statewise.sources import Source
from statewise.store import RunFolder
from statewise.study.arm_run import ArmRun
from statewise.study.spec import Search, Study, read_study
from statewise.supervision import Supervision
from statewise.supervision.advantage import score
from statewise.testing import trajectory
from tests import synthetic_run as synthetic
from tests.test_layers import LAYERS

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCE = REPOSITORY / "src" / "statewise"
GLOSSARY = REPOSITORY / "docs" / "glossary.md"
PITFALLS = REPOSITORY / "docs" / "pitfalls.md"
DATA = {".json", ".jsonl", ".parquet"}
NOT_OURS = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"}
NOT_OURS |= {".verified.json"}  # a cache: what a manifest says
"""Hugging Face's own files beside a policy, and what holds no figure."""
QUANTITY, COLUMNS, EMBEDDED = "A quantity", "Columns of tables", "world/base/statewise.json"
CHECKED = "statewise check --json"
PLANNED = "statewise plan --json"


# ---- reading the pages --------------------------------------------------------------------------


def cells(line: str) -> list[str]:
    r"""Cells of a table row; an escaped `\|` is a character of its cell."""
    return [c.strip().replace(r"\|", "|") for c in re.split(r"(?<!\\)\|", line.strip())[1:-1]]


def sections(page: Path) -> dict[str, list[list[str]]]:
    """Body rows of the tables under each heading, headings without backticks."""
    found: dict[str, list[list[str]]] = {}
    name = ""
    for line in page.read_text("utf-8").splitlines():
        if line.startswith("#"):
            name = line.lstrip("# ").replace("`", "")
            found[name] = []
        elif line.startswith("|"):
            found[name].append(cells(line))
    return {name: rows[2:] for name, rows in found.items() if rows}


def glossary() -> dict[str, list[str]]:
    """The keys that the glossary explains, by section."""
    return {
        name: [key for row in rows for key in re.findall(r"`([^`]+)`", row[0])]
        for name, rows in sections(GLOSSARY).items()
    }


# ---- reading a run ------------------------------------------------------------------------------


def keys_of(value: Any, prefix: str, quantities: list[Any]) -> Iterator[str]:
    """Dotted keys of nested plain data; a quantity is a leaf, and is put aside."""
    if isinstance(value, Mapping) and {"estimate", "over"} <= value.keys():
        quantities.append(value)
        yield prefix
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from keys_of(item, f"{prefix}.{key}" if prefix else key, quantities)
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for item in value:
            yield from keys_of(item, f"{prefix}[]", quantities)
    else:
        yield prefix or "."


def written_in(path: Path) -> list[Any]:
    """The records of a data file."""
    if path.suffix == ".parquet":
        return [dict.fromkeys(pq.read_schema(path).names)]
    text = path.read_text("utf-8")
    return [json.loads(part) for part in (text.splitlines() if path.suffix == ".jsonl" else [text])]


def written(*roots: Path) -> dict[str, set[str]]:
    """Keys by the section that should explain them, of every data file of ours under `roots`."""
    found: dict[str, set[str]] = {QUANTITY: set()}
    for path in (p for root in roots for p in root.rglob("*") if p.suffix in DATA):
        if path.name in NOT_OURS:
            continue
        name = f"policy/{path.name}" if path.parent.name == "policy" else path.name
        quantities: list[Any] = []
        for record in written_in(path):
            if name == "results.json":
                record["environment"] = None  # a copy of environment.json
            keys = {re.sub(r"^stream\d+\.", "", key) for key in keys_of(record, "", quantities)}
            found.setdefault(name, set()).update(keys)
        for quantity in quantities:
            found[QUANTITY] |= {f"estimate.{key}" for key in quantity["estimate"]}
            found[QUANTITY] |= quantity.keys() - {"estimate"}
    return found


class Heads(HTMLParser):
    """Texts of the column heads of a page, without what stands small beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "th" and ("scope", "col") in attrs:
            self.inside = True
            self.found.append("")
        elif tag == "small":
            self.inside = False

    def handle_endtag(self, tag: str) -> None:
        if tag == "th":
            self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.found[-1] += data


def heads_of_markdown(text: str) -> list[str]:
    """Column heads of every table of a Markdown page, as a reader sees them."""
    lines = text.splitlines()
    tables = [above for above, rule in itertools.pairwise(lines) if rule.startswith("| ---")]
    return [re.sub(r"\\(.)", r"\1", cell) for table in tables for cell in cells(table)]


def heads_of_html(text: str) -> list[str]:
    """Column heads of every table of a page."""
    heads = Heads()
    heads.feed(text)
    return heads.found


def shown(root: Path) -> set[str]:
    """Column heads of every table that a report shows, names of tasks replaced."""
    results = write_report(root)
    texts = heads_of_html((root / "report.html").read_text("utf-8"))
    texts += heads_of_markdown((root / "report.md").read_text("utf-8"))
    terminal = [
        str(column.header).replace("\n", " ")
        for part in _tables(results, 100)
        for column in part.columns
    ]
    texts += terminal[1 + len(results.columns()) :]  # the arm, then each task over several lines
    for task in results.tasks:
        texts = [text.replace(task.name, "<task>") for text in texts]
    return set(texts) - {""}


def shown_of_probes(folder: Path) -> set[str]:
    """Column heads behind the figures of a run that has every probe and a match."""
    run = synthetic.make_run(folder, items=20, probes=True)
    results = summarise(run)
    results = replace(results, matched=synthetic.synthetic_probes.matched(results))
    heads = {head for plate in plates(gather(run, results)) for head in plate.head}
    return {head.replace(synthetic.TARGET, "<task>") for head in heads}


def replaying(study: Study) -> Study:
    """An arm that trains on its own past beside a mixture, whose steps log ages and shares."""
    grpo = study.arm("grpo")
    (stream,) = grpo.streams
    mixed = gkd(teacher=PolicyRef("base"), max_new_tokens=8)

    def stale(name: str, method: Method, budget: Budget, prompts_per_step: int) -> Arm:
        method = with_replay(method, share=0.5, age_limit=2)
        return Arm.of(name, method, stream.prompts, budget, prompts_per_step=prompts_per_step)

    rewarded = Method(stream.source, stream.terms)
    arms = (
        stale("stale", mixed, Budget(1e-2, steps=3), 4),
        stale("stale_rl", rewarded, grpo.budget, stream.prompts_per_step),
    )
    return replace(study, arms=arms, claims=(), doses={}, search=None)


def matched(study: Study) -> Study:
    """Two arms and both kinds of null, one arm matched to the other's updates."""
    arms = (study.arm("mild_sft"), study.arm("stress_sft"))
    between = Interpolation("between", ("base", "stress_sft"), "mild_sft", prompts_limit=4)
    early = EarlyStop("early", "mild_sft", "stress_sft", by="update_norm")
    match = Match("updates", "mild_sft")
    claim = Exceeds(name="c", text="t", arm="stress_sft", over=("between", "early"))
    return replace(
        study,
        arms=arms,
        nulls=(between, early),
        match=match,
        claims=(claim,),
        doses={},
        search=None,
    )


def planned(study: Study) -> set[str]:
    """Keys of the document that a plan prints."""
    assumed = Assumed()
    roles = {task.key: task.role for task in study.tasks}
    claims = plan_claims(study.claims, roles, sizes(study.tasks), 3, assumed)
    few = replace(study, arms=study.arms[:1], claims=(), doses={}, search=None)
    costs = measure_costs(few, steps=1, workers=0)
    document = json.loads(json.dumps(plan_plain(study.name, claims, costs, assumed)))
    return set(keys_of(document, "", []))


@pytest.fixture(scope="module")
def found(tiny_study, tiny_run, probed_run, tmp_path_factory) -> dict[str, set[str]]:
    """What a tiny study, its report, one with probes and a tiny search write and show."""
    columns = shown(tiny_run.root) | shown_of_probes(tmp_path_factory.mktemp("probed"))
    write_results(probed_run.root)
    task = replace(tiny_study.dev.task, limit=2)
    # The second one fails, and says so.
    trials = {"mild_sft": ({"budget.learning_rate": 0.001}, {"budget.learning_rate": 1000.0})}
    searched = tmp_path_factory.mktemp("search")
    search(replace(tiny_study, search=Search((100,), task, trials)), searched, workers=0)
    replayed = tmp_path_factory.mktemp("replay")
    for arm in ("stale", "stale_rl"):
        train_arm(ArmRun(replaying(tiny_study), RunFolder(replayed), arm, 0), lambda *_: None)
    nulls = run_study(matched(tiny_study), tmp_path_factory.mktemp("nulls") / "run", workers=0)
    columns |= shown(nulls.root)
    keys = written(tiny_run.root, probed_run.root, searched, replayed, nulls.root)
    keys["metrics.jsonl"] |= judged()
    keys[EMBEDDED] = written(SOURCE / "world" / "base")["statewise.json"]
    return keys | {COLUMNS: columns, CHECKED: checked(tiny_study), PLANNED: planned(tiny_study)}


def judged() -> set[str]:
    """What a step logs of a mathematical reward, whose library is an extra."""
    with mock.patch.object(MathVerify, "judge", return_value=Judged(1.0)):
        return set(score(MathVerify(), [trajectory(1)]).figures)


def checked(study: Study) -> set[str]:
    """Keys of the document that a check prints; the numbers of a line by the line's name."""
    document = plain(study.name, list(check_study(study, items=2)))
    numbers = {
        f"{line['name']}.{key}"
        for arm in document["arms"]
        for line in arm["lines"]
        for key in line.pop("values")
    }
    return numbers | set(keys_of(document, "", []))


# ---- the glossary -------------------------------------------------------------------------------


def means(pattern: str, key: str) -> bool:
    """True where a glossary entry, `*` for any name, explains a key."""
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".+"), key) is not None


def unexplained(found: Mapping[str, set[str]], explained: Mapping[str, list[str]]) -> list[str]:
    """Keys that are written and have no entry."""
    return sorted(
        f"{section}: {key}"
        for section, keys in found.items()
        for key in keys
        if not any(means(pattern, key) for pattern in explained.get(section, ()))
    )


def unwritten(found: Mapping[str, set[str]], explained: Mapping[str, list[str]]) -> list[str]:
    """Entries that no key of a run answers to."""
    return sorted(
        f"{section}: {pattern}"
        for section, patterns in explained.items()
        for pattern in patterns
        if not any(means(pattern, key) for key in found.get(section, ()))
    )


def test_every_number_that_is_written_or_shown_is_in_the_glossary(found):
    assert unexplained(found, glossary()) == []


def test_the_glossary_names_nothing_that_no_run_writes(found):
    assert unwritten(found, glossary()) == []


def test_a_planted_gap_is_found():
    entries = {"rows": ["loss", "*.best", "."]}
    assert unexplained({"rows": {"loss", "a.best", "a.worst"}}, entries) == ["rows: a.worst"]
    assert unexplained({"new.json": {"loss"}}, entries) == ["new.json: loss"]
    assert unwritten({"rows": {"a.best"}}, entries) == ["rows: .", "rows: loss"]


def test_every_entry_has_a_unit_a_meaning_and_a_file_that_exists():
    for name, rows in sections(GLOSSARY).items():
        for row in rows:
            assert len(row) == 4, f"{name}: {row}"
            assert all(row), f"{name}: {row[0]} has an empty cell"
            (file,) = re.findall(r"`([^`]+)`", row[3])
            assert (SOURCE / file).is_file(), f"{name}: {row[0]} names {file}, which is not there"


def test_no_entry_stands_twice():
    for name, keys in glossary().items():
        assert len(keys) == len(set(keys)), name


# ---- the pitfalls -------------------------------------------------------------------------------

OPEN = ("not applicable here, because ", "not covered yet")


def names_of_tests(file: Path) -> set[str]:
    """Names of the test functions of a file."""
    return {
        node.name
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def test_every_test_that_a_pitfall_names_exists():
    named = re.findall(r"`(tests/[^`:]+\.py)::([^`]+)`", PITFALLS.read_text("utf-8"))
    assert len(named) > 20
    missing = [
        f"{file}::{name}" for file, name in named if name not in names_of_tests(REPOSITORY / file)
    ]
    assert missing == []


def test_every_pitfall_says_what_covers_it():
    rows = [row for table in sections(PITFALLS).values() for row in table]
    assert len(rows) > 30
    for row in rows:
        assert len(row) == 3, row
        what, _, covered = row
        assert what
        assert "`tests/" in covered or covered.startswith(OPEN), f"{what}: {covered}"


# ---- the methods --------------------------------------------------------------------------------

METHODS = REPOSITORY / "docs" / "methods.md"


def test_the_page_of_methods_is_what_would_be_written_now():
    assert METHODS.read_text("utf-8") == generator.page(), "say: make docs"


def test_every_method_of_the_source_has_one_row_and_every_kind_a_line():
    """Functions as the source has them, not as the generator finds them."""
    named = [
        node.name
        for file in ("supervised", "distillation", "reinforcement", "variants")
        for node in ast.parse((SOURCE / "arms" / f"{file}.py").read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    ]
    assert len(named) > 30
    tables = sections(METHODS)
    assert [row[0].strip("`") for row in tables["Methods"]] == named
    assert set(named) < set(arms.__all__)
    for title, union in (
        ("Sources", Source),
        ("Supervision", Supervision),
        ("Objectives", Objective),
    ):
        assert [row[1].strip("`") for row in tables[title]] == [k.__name__ for k in get_args(union)]
        assert all(len(row) == 3 and all(row) for row in tables[title])


def test_every_row_is_full_and_names_its_paper_or_says_why_it_has_none():
    rows = {row[0].strip("`"): row[1:] for row in sections(METHODS)["Methods"]}
    assert all(all(cells) for cells in rows.values())
    named = re.compile(r"arxiv\.org/abs|, (19|20)\d\d")
    reasons = {name: cells[-1] for name, cells in rows.items() if not named.search(cells[-1])}
    assert reasons == generator.WITHOUT_PAPER
    assert rows["with_importance"][-1] == "Ionides, 2008; Yao et al., 2025"
    assert rows["with_anchor"][-1] == rows["anchored_grpo"][-1]
    assert rows["continuation_opd"][1] == "root only"
    assert rows["grpo"][1] == "yes"
    assert rows["grpo"][-2] == "normaliser sequence"
    assert rows["dr_grpo"][-2] == "normaliser constant, constant_tokens max_new_tokens"
    assert "without its dynamic sampling" in rows["dapo"][-1]
    assert rows["rejection_sft"][1] == rows["sft"][1] == "no"
    assert rows["prefix_reset_rl"][1].startswith("partly")


def test_a_method_that_nobody_can_call_stops_the_generator():
    def planted(*, flavour):
        raise AssertionError("called without its argument")

    with pytest.raises(SystemExit, match="planted: give EXAMPLES a value for 'flavour'"):
        generator.example(planted)


def test_a_method_without_a_paper_and_without_a_reason_stops_the_generator():
    def planted(name, prompts, budget):
        """A method of nobody's."""

    with pytest.raises(SystemExit, match="planted: name its paper, or say in WITHOUT_PAPER"):
        generator.papers(planted)


# ---- examples in docstrings ---------------------------------------------------------------------

AXES = ("objectives", "supervision", "sources", "rewards", "arms", "signals", "policy")
NEEDS_MORE = {
    "a model, which no docstring can check by hand": {
        "Policy",
        "Weights",
        "Forward",
        "read_teacher",
        "policies",
        "bind",
        "TeacherDistribution",
        "ReferenceActions",
        "Labels",
        "longest_completion",
        "Loaded",
        "add_adapter",
        "check_reading",
        "check_targets",
        "few_logits",
        "few_tokens",
        "find",
        "load",
        "load_tokenizer",
        "name_portably",
        "base_of",
        "placed",
        "put_on",
        "read_own",
        "read_transform",
        "same_logits",
        "refuse_loops",
        "Shard",
        "shards_of",
        "views_of",
        "add_gradients",
        "partition",
        "bind_arm",
    },
    "a tokenizer": {
        "own_ids",
        "Piece",
        "piece",
        "anchor",
        "prefix_ids",
        "first_id",
        "encode",
        "behind",
        "continued",
        "encode_all",
        "completion_text",
        "decoded",
        "stop_token_ids",
        "write_stops",
        "read_stops",
    },
    "a file of the user's": {
        "PythonReward",
        "PythonTokenReward",
        "PythonObjective",
        "PythonSource",
        "read_adapter_config",
        "read_config",
        "read_object",
        "read_shapes",
        "read_tensors",
        "read_words",
        "refuse_code",
        "refuse_pickles",
        "weight_files",
    },
    "an extra that may not be installed": {"MathVerify", "equal", "unreadable"},
    "nothing: a protocol": {"ReadsRows"},
    "nothing: it stands for the visited action itself": {"Actions", "Advantages", "Reference"},
}
"""Public callables without an example, by what an example would need."""
METHOD_MODULES = {f"statewise.arms.{m}" for m in ("supervised", "distillation", "reinforcement")}
METHOD_MODULES |= {"statewise.arms.variants"}
"""Each function of these is called, and shown, in docs/methods.md."""


def public_callables() -> Iterator[tuple[str, Any]]:
    """Public functions and classes of the axes, where they are defined."""
    for name in AXES:
        package = importlib.import_module(f"statewise.{name}")
        inside = pkgutil.iter_modules(getattr(package, "__path__", []))
        parts = [importlib.import_module(f"statewise.{name}.{part.name}") for part in inside]
        for module in (package, *parts):
            for key, value in vars(module).items():
                home = getattr(value, "__module__", None) == module.__name__
                if (
                    home
                    and not key.startswith("_")
                    and inspect.isroutine(value) | inspect.isclass(value)
                ):
                    yield key, value


def has_example(value: Any) -> bool:
    """True where the docstring, or that of a public method, holds a doctest."""
    inner = vars(value).items() if inspect.isclass(value) else ()
    parts = [value, *(item for key, item in inner if callable(item) and not key.startswith("_"))]
    return any(">>>" in (part.__doc__ or "") for part in parts)


def test_public_callables_of_the_axes_show_an_example_or_say_what_one_would_need():
    bare = {
        key
        for key, value in public_callables()
        if not has_example(value) and value.__module__ not in METHOD_MODULES
    }
    excused = [name for names in NEEDS_MORE.values() for name in names]
    assert len(excused) == len(set(excused))
    assert bare == set(excused)


# ---- dependencies ------------------------------------------------------------------------------


def test_every_direct_dependency_has_its_reason():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    direct = [re.split(r"[<>=\[]", line)[0] for line in project["dependencies"]]
    page = (REPOSITORY / "docs" / "dependencies.md").read_text("utf-8")
    assert re.findall(r"^\| ([\w.-]+) \| \w", page, re.MULTILINE)[1:] == direct
    pinned = (REPOSITORY / "constraints.txt").read_text("utf-8").lower().replace("_", "-")
    assert [name for name in direct if f"\n{name}==" not in f"\n{pinned}"] == []


# ---- README -------------------------------------------------------------------------------------


def test_the_readme_leads_to_the_pages_and_the_examples():
    text = (REPOSITORY / "README.md").read_text("utf-8")
    for place in (
        "docs/study.md",
        "docs/methods.md",
        "docs/glossary.md",
        "docs/pitfalls.md",
        "examples/",
    ):
        assert place in text


def test_trees_of_files_name_every_module_in_the_order_of_the_layers():
    """README's tree and design's layers are what an import may point down."""
    readme = (REPOSITORY / "README.md").read_text("utf-8").split("    src/statewise/\n")[1]
    rows = list(itertools.takewhile(lambda line: line.startswith("      "), readme.splitlines()))
    design = (REPOSITORY / "docs" / "design.md").read_text("utf-8").split("## Layers")[1]
    stated = re.findall(r"^    (\d+)  (.*)$", design.split("## Decisions")[0], re.MULTILINE)
    modules = set(LAYERS) - {"__main__"}

    def names(row: str) -> list[str]:
        left = re.split(r" {3,}", row.strip())[0]
        return [re.sub(r"\.py$|/$", "", word) for word in left.split()]

    in_readme = [name for row in rows for name in names(row)]
    in_design = [(name, int(layer)) for layer, row in stated for name in names(row)]
    assert sorted(in_readme) == sorted(modules)
    assert [LAYERS[name] for name in in_readme] == sorted(LAYERS.values())[: len(modules)]
    assert sorted(in_design) == sorted((name, LAYERS[name]) for name in modules)


def test_places_in_the_package_that_pages_name_are_there():
    """A page that names a file which has moved sends its reader nowhere."""
    pages = [REPOSITORY / "README.md", *(REPOSITORY / "docs").glob("*.md")]
    lost = [
        f"{page.name}: {place}"
        for page in pages
        if page.name != "LOG.md"
        for place in re.findall(r"`(src/statewise/[^`<*: ]+)`", page.read_text("utf-8"))
        if not (REPOSITORY / place).exists()
    ]
    assert lost == []


@pytest.mark.slow
def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder, as in a fresh clone: it needs no run that somebody has made."""
    monkeypatch.chdir(tmp_path)
    code = "\n".join(python_of(REPOSITORY / "README.md"))
    assert "steps=60" in code
    assert "steps=30" in code
    exec(code.replace("steps=60", "steps=1").replace("steps=30", "steps=1"), {})
    assert (tmp_path / "my-policy" / "model.safetensors").is_file()


def python_of(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


def test_the_python_of_the_howto_runs(
    tiny_run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    chat, paired = python_of(REPOSITORY / "docs" / "howto.md")
    exec(chat, names := {})
    assert json.loads(capsys.readouterr().out) == {"question": "1+1?", "answer": "2"}
    talk = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    rows = list(names["rows"]([{"role": role, "content": text} for role, text in talk]))
    turn = "<|im_end|>\n<|im_start|>"
    assert rows[1] == {
        "question": f"a{turn}assistant\nb{turn}user\nc",
        "answer": "d",
    }
    exec(paired, names)
    found = names["difference"](tiny_run.root, tiny_run.root, "mild_sft")
    assert set(found["mean"]) == {0.0}
    assert found["count"].min() >= 4


def test_the_study_of_the_howto_is_one_and_differs_in_the_objective_alone(capsys):
    study = read_study(str(REPOSITORY / "examples" / "dft.yaml"))
    first, second = (arm.streams[0] for arm in study.arms)
    assert replace(second, terms=first.terms) == first
    assert study.varies == ("objective", "budget")
    trials = study.search.trials
    assert trials["sft"] == trials["dft"]
    assert not set(study.search.seeds) & set(study.seeds)
