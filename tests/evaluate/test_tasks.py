"""From a `Task` to loaded tasks of the harness: names, overrides, local data, refusals."""

from __future__ import annotations

import contextlib
import re
import socket
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from statewise.errors import ConfigError, DataError
from statewise.evaluate import Task
from statewise.evaluate.guarded import guarded
from statewise.evaluate.requests import answers, asked
from statewise.evaluate.tasks import filter_of, load
from statewise.world.tasks import TASKS_FOLDER
from tests.evaluate.conftest import WriteData


def gsm8k(**overrides: Any) -> Task:
    return Task(
        **{
            "name": "gsm8k",
            "role": "target",
            "metric": "exact_match",
            "filter": "strict-match",
            **overrides,
        }
    )


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("local data must not ask the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_the_real_benchmarks_load_from_a_folder(shared_data: Any, no_network: None) -> None:
    data = str(shared_data)
    (task,) = load(gsm8k(data=data)).values()
    assert len(task.test_docs()) == 1319
    assert task.get_config("num_fewshot") == 5, "the task's own"
    assert task.doc_to_text(task.test_docs()[1]).startswith(
        "Question: A robe takes 2 bolts of blue"
    )
    for name in ("truthfulqa_mc1", "truthfulqa_mc2"):
        (task,) = load(Task(name, "retention", metric="acc", data=data)).values()
        assert len(task.eval_docs) == 817
    assert task.doc_to_choice(task.eval_docs[0])[1] == "You will digest the pomegranate."
    leaves = load(Task("mmlu", "retention", metric="acc", data=data))
    assert len(leaves) == 57
    assert sum(len(leaf.eval_docs) for leaf in leaves.values()) == 14042
    anatomy = leaves["mmlu_anatomy"]
    assert anatomy.doc_to_target(anatomy.eval_docs[0]) == 0
    assert anatomy.doc_to_text(anatomy.eval_docs[0]).startswith(
        "A lesion causing compression of the"
    )


def test_a_subgroup_a_single_subject_and_a_tag_load_too(shared_data: Any) -> None:
    data = str(shared_data)
    assert len(load(Task("mmlu_stem", "retention", metric="acc", data=data))) == 19
    assert len(load(Task("mmlu_stem_tasks", "retention", metric="acc", data=data))) == 19
    assert list(load(Task("mmlu_virology", "retention", metric="acc", data=data))) == [
        "mmlu_virology"
    ]


def test_overrides_reach_the_task_and_are_built_once(write_data: WriteData) -> None:
    data = str(write_data())
    task = gsm8k(data=data, num_fewshot=2, max_new_tokens=7)
    (loaded,) = load(task).values()
    assert loaded.get_config("num_fewshot") == 2
    assert loaded.get_config("generation_kwargs")["max_gen_toks"] == 7
    assert loaded.get_config("generation_kwargs")["until"][0] == "Question:"
    assert load(task)["gsm8k"] is loaded
    (other,) = load(gsm8k(data=data)).values()
    assert other.get_config("num_fewshot") == 5, "one task's overrides must not reach another"


@pytest.mark.parametrize("name", ["strict-match", "flexible-extract"])
def test_the_filter_that_is_named_is_the_one_that_is_read(write_data: WriteData, name: str) -> None:
    task = gsm8k(data=str(write_data()), filter=name)
    assert filter_of(task, load(task)["gsm8k"]) == name


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (gsm8k(name="pocket_gsn"), "unknown task 'pocket_gsn'; did you mean 'pocket_gsm'?"),
        (gsm8k(filter="strict"), "no filter 'strict'; did you mean 'strict-match'?"),
        (gsm8k(filter=None), "several filters, name one: strict-match, flexible-extract"),
        (gsm8k(metric="exact_macth"), "no metric 'exact_macth'; did you mean 'exact_match'?"),
        (gsm8k(num_fewshot=8), "num_fewshot is 8, but there are 7 examples"),
        (
            Task("truthfulqa_gen", "retention", metric="bleu_acc"),
            "'truthfulqa_gen' wants truthfulqa/truthful_qa:generation, which is not among",
        ),
    ],
)
def test_what_cannot_be_given_is_refused(write_data: WriteData, task: Task, message: str) -> None:
    from dataclasses import replace

    data = str(write_data())
    with pytest.raises(ConfigError, match=re.escape(message)):
        load(replace(task, data=data))


@pytest.mark.slow
def test_an_unknown_name_names_the_nearest_of_all_tasks() -> None:
    with pytest.raises(ConfigError, match="unknown task 'hellaswagg'; did you mean 'hellaswag'"):
        load(Task("hellaswagg", "retention", metric="acc"))


def test_a_hub_out_of_reach_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach 'openai/gsm8k' on the Hub (OfflineModeIsEnabled)")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(
        ConfigError, match=r"its data could not be loaded \(Couldn't reach .*`data: F"
    ):
        load(gsm8k(label="from the hub"))


def test_a_bad_row_passes_through_as_a_data_error(write_data: WriteData) -> None:
    with pytest.raises(DataError, match=r"test\.jsonl, row 1"):
        load(gsm8k(data=str(write_data(gsm8k_test='{"question": "a"}\n'))))


@pytest.mark.parametrize("field", ["limit", "max_new_tokens", "samples_per_item"])
def test_numbers_below_one_are_refused(field: str) -> None:
    with pytest.raises(ConfigError, match=f"{field} must be at least 1, not 0"):
        gsm8k(**{field: 0})


def test_a_prompt_of_the_study_is_rendered_here_and_as_the_harness_would(
    write_data: WriteData, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lm_eval import utils

    template = "{% if question %}Say: {{ question|upper }}{{ ' =' * 2 }}\n{% endif %}"
    data = str(write_data())
    (theirs,) = load(gsm8k(data=data)).values()
    document = theirs.eval_docs[0]
    wanted = utils.apply_template(template, document)
    (leaf,) = load(gsm8k(data=data, prompt=template)).values()
    with monkeypatch.context() as harness:
        harness.setattr(utils, "apply_template", lambda *_: pytest.fail("the harness rendered it"))
        assert leaf.doc_to_text(document) == wanted
    (field,) = load(gsm8k(data=data, prompt="question", label="field")).values()
    assert field.doc_to_text(document) == document["question"]


def test_a_prompt_can_run_nothing_and_end_nowhere_but_in_one_line(write_data: WriteData) -> None:
    data = str(write_data())
    with pytest.raises(ConfigError, match=r"task 'gsm8k': prompt, line 2: expected token"):
        gsm8k(prompt="a\n{{ b c }}")
    reach = "{{ cycler.__init__.__globals__.os.system('exit') }}"
    with pytest.raises(ConfigError, match=r"task 'gsm8k': prompt, line 1: 'cycler' is undefined"):
        load(gsm8k(data=data, prompt=reach))
    with pytest.raises(
        ConfigError, match=r"line 1: 'quest' is undefined; there are answer, question"
    ):
        load(gsm8k(data=data, prompt="{{ quest }}"))


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "/proc/self/cwd/x",
        "gsm8k/../../x",
        "x/y.yaml",
        "~/x",
        "_x",
        ".x",
        "x\\y",
        "x\0y",
        "x\ny",
        "x" * 300,
    ],
)
def test_a_tasks_name_is_a_name_and_no_path(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^task name"):
        Task(name, "retention", metric="acc")
    with pytest.raises(ConfigError, match=r"^task label"):
        Task("gsm8k", "retention", metric="acc", label=name)


def test_names_of_the_world_and_the_harness_are_names() -> None:
    from lm_eval.tasks import TaskManager

    names = TaskManager(include_path=str(TASKS_FOLDER), include_defaults=False).all_tasks
    for name in [*names, "egymmlu_arabic_language_(general)", "include_base_44", "arc_challenge"]:
        Task(name, "retention", metric="acc")


# ---- the code of a task -----------------------------------------------------------------------


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with metrics that leave a mark where they are imported; the mark's place."""
    for name in ("code_eval", "bleu", "rouge"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "ran"


@pytest.mark.parametrize(
    ("name", "metric", "why"),
    [
        ("humaneval", "pass@1", "runs code that the model writes"),
        ("mbpp", "pass_at_1", "runs code that the model writes"),
        ("meqsum", "bleu", "needs the metric 'bleu'"),
    ],
)
def test_a_task_imports_no_metric_of_the_working_directory(
    planted: Path, no_network: None, name: str, metric: str, why: str
) -> None:
    with pytest.raises(ConfigError, match=f"task '{name}' {why}"):
        load(Task(name, "target", metric=metric))
    assert not planted.exists()
    assert f"lm_eval.tasks.{name}.utils" not in sys.modules or name == "meqsum", (
        "its functions were imported"
    )


def test_a_metric_is_refused_even_where_the_code_goes_on_without(
    planted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Any = ModuleType("evaluate.loading")
    find = real.evaluation_module_factory = lambda *_: pytest.fail("a metric was looked for")
    monkeypatch.setitem(sys.modules, "evaluate.loading", real)
    before = sys.modules.get("evaluate")

    def swallow(call: Any) -> None:  # as the harness does with metrics that it does not know
        with contextlib.suppress(Exception):
            call()

    for load_metric in (
        lambda: __import__("evaluate").load("code_eval"),
        lambda: real.evaluation_module_factory("code_eval"),
    ):
        with (
            pytest.raises(ConfigError, match="task 'x' needs the metric 'code_eval'"),
            guarded("x"),
        ):
            swallow(load_metric)
    assert not planted.exists()
    assert real.evaluation_module_factory is find
    assert sys.modules.get("evaluate") is before


def test_a_data_set_is_never_a_folder_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_network: None
) -> None:
    import datasets

    monkeypatch.chdir(tmp_path)
    (tmp_path / "gsm8k").mkdir()
    (tmp_path / "gsm8k" / "test.jsonl").write_text('{"question": "q", "answer": "1"}\n')
    assert len(datasets.load_dataset("gsm8k", cache_dir=str(tmp_path / "cache"))) == 1
    with pytest.raises(ConfigError, match="wants the data set 'gsm8k' of the hub"), guarded("x"):
        datasets.load_dataset("gsm8k", cache_dir=str(tmp_path / "cache"))
    with guarded("x"):  # a format is no name of the hub
        (tmp_path / "json").mkdir()
        file = str(tmp_path / "gsm8k" / "test.jsonl")
        datasets.load_dataset("json", data_files=file, cache_dir=str(tmp_path / "cache"))


def test_whatever_a_tasks_own_code_raises_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Task("pocket_gsm", "target", metric="exact_match", limit=1)
    (question,) = asked(task, 1)
    (request,) = question.requests[0]
    monkeypatch.setattr(request, "filtered_resps", {question.filter: "7"})
    monkeypatch.setattr(question.leaf, "process_results", lambda *_: {}["answer"])
    with pytest.raises(ConfigError, match=r"task 'pocket_gsm': .* KeyError \('answer'\)"):
        list(answers(question))
    monkeypatch.setattr(question.leaf, "build_all_requests", lambda **_: None + 1)
    with pytest.raises(ConfigError, match=r"task 'pocket_gsm': .* TypeError"):
        asked.__wrapped__(task, 1)
    with pytest.raises(ConfigError, match=r"task 'x': .* SystemExit"), guarded("x"):
        sys.exit("bye")
