"""Evaluation item by item."""

from tests.mutants.mutant import Mutant

TASKS = "evaluate/test_tasks.py"
ITEMS = "evaluate/test_items.py"
FLAGGED = f"{ITEMS}::test_failed_extraction_and_cut_texts_are_flagged"
APART = f"{ITEMS}::test_sampled_texts_depend_on_the_seed_and_item_alone"

MUTANTS = (
    Mutant(
        "shift",
        "a short continuation is read where the longest begins",
        "evaluate/scoring.py",
        "at[len(at) - len(continuation) :]",
        "at[: len(continuation)]",
        (
            "evaluate/test_continuations.py::test_continuations_of_unequal_length_that_share_a_row_are_read_at_their_own_states",
        ),
    ),
    Mutant(
        "fault as score",
        "a choice is greedy where any of its tokens is",
        "evaluate/scoring.py",
        "np.logical_and.at(greedy",
        "np.logical_or.at(greedy",
        (
            "evaluate/test_continuations.py::test_a_continuation_is_greedy_where_every_token_of_it_is",
        ),
    ),
    Mutant(
        "context",
        "a text that is too long is cut on the right",
        "evaluate/scoring.py",
        "whole[-(context_tokens + 1) : -1]",
        "whole[:context_tokens]",
        ("evaluate/test_continuations.py::test_what_is_too_long_is_cut_from_the_left",),
    ),
    Mutant(
        "context",
        "a long prompt loses its end",
        "evaluate/harness.py",
        "np.array(row[-room:], np.int32)",
        "np.array(row[:room], np.int32)",
        ("evaluate/test_continuations.py::test_a_prompt_that_is_too_long_keeps_its_end",),
    ),
    Mutant(
        "template",
        "few-shot examples drift from pass to pass",
        "evaluate/requests.py",
        "leaf.set_fewshot_seed(FEWSHOT_SEED)",
        "leaf.set_fewshot_seed(None)",
        (f"{ITEMS}::test_few_shot_examples_are_the_same_every_time",),
    ),
    Mutant(
        "seed",
        "equal items are sampled alike",
        "evaluate/harness.py",
        'seed_for("evaluate", self.seed, k.task, k.doc, k.request, k.repeat)',
        'seed_for("evaluate", self.seed, k.task, k.request, k.repeat)',
        (f"{ITEMS}::test_equal_items_are_sampled_apart",),
    ),
    Mutant(
        "code of a stranger",
        "a task that runs the model's code is refused behind its import",
        "evaluate/tasks.py",
        "        _refuse_unsafe(task, registry[leaf])",
        "        _leaves(task.name, registry)",
        (f"{TASKS}::test_a_task_imports_no_metric_of_the_working_directory",),
    ),
    Mutant(
        "code of a stranger",
        "a task's metric may be a file of the working directory",
        "evaluate/guarded.py",
        "        real.evaluation_module_factory = load_metric",
        "        real.evaluation_module_factory = load",
        (f"{TASKS}::test_a_metric_is_refused_even_where_the_code_goes_on_without",),
    ),
    Mutant(
        "code of a stranger",
        "a data set may be a folder of the working directory",
        "evaluate/guarded.py",
        "path not in FORMATS and not os.path.isabs(path)",
        "path in FORMATS and not os.path.isabs(path)",
        (f"{TASKS}::test_a_data_set_is_never_a_folder_of_the_working_directory",),
    ),
    Mutant(
        "seed",
        "every sample of an item is the first",
        "evaluate/items.py",
        'f"{seed}/{sample}", sampling',
        'f"{seed}", sampling',
        (APART,),
    ),
    Mutant(
        "seed",
        "evaluation moves Python's generator",
        "evaluate/isolation.py",
        "random.setstate(python)",
        "random.getstate()",
        ("evaluate/test_continuations.py::test_no_global_generator_moves",),
    ),
    Mutant(
        "seed",
        "evaluation moves torch's generator",
        "evaluate/isolation.py",
        "torch.random.fork_rng(gpus),",
        "contextlib.nullcontext(gpus),",
        ("evaluate/test_continuations.py::test_no_global_generator_moves",),
    ),
    Mutant(
        "extraction",
        "a completion without an answer has failed nothing",
        "evaluate/items.py",
        "extraction_failed=INVALID in _filtered(answered) if generates else None",
        "extraction_failed=False if generates else None",
        (FLAGGED,),
    ),
    Mutant(
        "extraction",
        "another filter's rows are counted too",
        "evaluate/tasks.py",
        "        )\n    return task.filter",
        "        )\n    return names[0]",
        ("evaluate/test_tasks.py::test_the_filter_that_is_named_is_the_one_that_is_read",),
    ),
    Mutant(
        "eos",
        "a cut text counts as stopped",
        "evaluate/harness.py",
        "completion.stopped or len(ends) > 0",
        "len(completion.token_ids) > 0",
        (FLAGGED,),
    ),
    Mutant(
        "stop string",
        "text goes on behind the earliest term",
        "evaluate/harness.py",
        "text = text.split(term)[0]",
        "text = text.rsplit(term, 1)[0]",
        (
            "evaluate/test_continuations.py::test_a_text_ends_before_the_first_place_of_the_earliest_term",
        ),
    ),
    Mutant(
        "clusters",
        "questions about one belief count as independent",
        "evaluate/items.py",
        "if task.cluster\n",
        "if not task.cluster\n",
        (f"{ITEMS}::test_items_are_clustered_by_a_field_of_the_data",),
    ),
    Mutant(
        "temperature",
        "the sampled pass is greedy",
        "evaluate/items.py",
        "(k, Sampling(), written)",
        "(k, Sampling(0.0), written)",
        (APART,),
    ),
)
