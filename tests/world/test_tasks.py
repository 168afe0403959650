"""lm-evaluation-harness loads the tasks offline and formats documents as written here by hand."""

from typing import Any

import pytest

from statewise.world import WORLD_VERSION, World
from statewise.world.tasks import TASKS_FOLDER

NAMES = ["pocket_gsm", "pocket_mmlu", "pocket_truthfulqa_mc1", "pocket_truthfulqa_mc2"]


@pytest.fixture(scope="module")
def tasks() -> dict[str, Any]:
    lm_eval_tasks = pytest.importorskip("lm_eval.tasks")
    manager = lm_eval_tasks.TaskManager(include_path=str(TASKS_FOLDER), include_defaults=False)
    with pytest.MonkeyPatch.context() as patch:
        # Any attempt to reach the hub fails here instead of hanging.
        patch.setenv("HF_HUB_OFFLINE", "1")
        return manager.load([*NAMES, *(f"{name}_dev" for name in NAMES)])["tasks"]


def test_tasks_load_with_their_sizes_and_version(tasks: dict[str, Any]) -> None:
    sizes = {name: len(task.eval_docs) for name, task in tasks.items()}
    test = dict(zip(NAMES, (1000, 2000, 2000, 2000), strict=True))
    assert sizes == test | {f"{name}_dev": 500 for name in NAMES}
    assert {task.VERSION for task in tasks.values()} == {WORLD_VERSION}


def test_records_pass_through_unchanged(tasks: dict[str, Any]) -> None:
    assert tasks["pocket_gsm"].eval_docs[0] == World().gsm("test")[0]
    assert tasks["pocket_mmlu_dev"].eval_docs[3] == World().mmlu("dev")[3]
    assert tasks["pocket_truthfulqa_mc1"].eval_docs[7] == World().truthfulqa("test")[7]


def test_gsm_format_by_hand(tasks: dict[str, Any]) -> None:
    document = {
        "question": "Tom has 2 eggs. He gets 3 more. How many?",
        "answer": "Now 2+3=<<2+3=5>>5.\n#### 5",
    }
    task = tasks["pocket_gsm"]
    assert (
        task.doc_to_text(document) == "Question: Tom has 2 eggs. He gets 3 more. How many?\nAnswer:"
    )
    assert task.doc_to_target(document) == "Now 2+3=<<2+3=5>>5.\n#### 5"
    assert task.config.generation_kwargs["until"] == ["Question:"]
    assert task.process_results(document, ["5"]) == {"exact_match": 1.0}
    assert task.process_results(document, ["6"]) == {"exact_match": 0.0}


def test_mmlu_format_by_hand(tasks: dict[str, Any]) -> None:
    document = {
        "question": "Which?",
        "subject": "music",
        "choices": ["w", "x", "y", "z"],
        "answer": 2,
    }
    task = tasks["pocket_mmlu"]
    assert task.doc_to_text(document) == "Question: Which?\nAnswer:"
    assert task.doc_to_choice(document) == ["w", "x", "y", "z"]
    assert task.doc_to_target(document) == 2
    results = [(-3.0, False), (-2.0, False), (-1.0, False), (-4.0, False)]
    assert task.process_results(document, results)["acc"] == 1.0


def test_truthfulqa_format_by_hand(tasks: dict[str, Any]) -> None:
    document = {
        "question": "What does the herb Nalko heal?",
        "mc1_targets": {"choices": ["colds.", "gout."], "labels": [1, 0]},
        "mc2_targets": {"choices": ["colds.", "gout.", "rash."], "labels": [1, 0, 0]},
    }
    one, two = tasks["pocket_truthfulqa_mc1"], tasks["pocket_truthfulqa_mc2"]
    assert (
        one.doc_to_text(document)
        == two.doc_to_text(document)
        == "Q: What does the herb Nalko heal?\nA:"
    )
    assert one.doc_to_choice(document) == ["colds.", "gout."]
    assert two.doc_to_choice(document) == ["colds.", "gout.", "rash."]
    # Probabilities 0.3, 0.1, 0.2: half of the mass is on the true answer.
    results = [(-1.2039728, False), (-2.3025851, False), (-1.6094379, False)]
    assert two.process_results(document, results)["acc"] == pytest.approx(0.5)


def test_the_corpus_asks_as_the_tasks_ask(tasks: dict[str, Any]) -> None:
    documents = list(World().documents(0, 200))
    starts = {
        "pocket_gsm": ("Question: ", "\nAnswer:"),
        "pocket_mmlu": ("Question: ", "\nAnswer:"),
        "pocket_truthfulqa_mc1": ("Q: ", "\nA:"),
    }
    for name, (start, end) in starts.items():
        prompt = tasks[name].doc_to_text(tasks[name].eval_docs[0])
        assert prompt.startswith(start)
        assert prompt.endswith(end)
        assert any(text.startswith(start) and end + " " in text for text in documents)
