"""Which tasks a study evaluates, and how each becomes a loaded task of lm-evaluation-harness.

Prompt, few-shot examples, filter and metric stay the harness's own; a `Task` chooses among them.
The data comes from the hub by name, from a local folder (`statewise.evaluate.local`), or, for the
embedded world, from the package itself.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from statewise.errors import ConfigError, nearest
from statewise.evaluate.guarded import guarded
from statewise.evaluate.isolation import undisturbed
from statewise.evaluate.local import READERS, Splits
from statewise.limits import CountOrZero, Rows, Samples, Seed, Tokens
from statewise.names import LABEL, check_name
from statewise.sandbox import PromptTemplate
from statewise.world.tasks import TASKS_FOLDER

if TYPE_CHECKING:
    import datasets
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks.manager import Entry

WORLD_PREFIX = "pocket_"
"""Task names that belong to the embedded world: never looked up anywhere else."""

RUNS_CODE = "task {!r} runs code that the model writes; statewise does not: choose another task"

LENGTH_KEYS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""What task files call the limit on generated tokens; the harness reads the first that it finds."""


@dataclass(frozen=True)
class Task:
    """One task of a study: what is measured, on what, and whether it is the target.

    `name` is any task, group or tag of lm-evaluation-harness (`gsm8k`, `mmlu`, `truthfulqa_mc1`) or
    of the embedded world (`pocket_gsm`). `limit` is the harness's own: the first `limit` items in
    the order of the data, **per subtask of a group**: `mmlu` with `limit` 10 is 570 items.

    >>> Task("gsm8k", "target", metric="exact_match", filter="strict-match", num_fewshot=5).key
    'gsm8k'
    """

    name: str
    role: Literal["target", "retention"]
    metric: str
    """The harness's name of the metric: `exact_match`, `acc`, `acc_norm`..."""
    prompt: str | None = None
    """Jinja template of the question over the fields of the data, the harness's `doc_to_text`; None =
    the task's own. Rendered by `statewise.sandbox`, which says what a template may do."""
    filter: str | None = None
    """The harness's answer extraction (`strict-match`, `flexible-extract`); None = the only one."""
    num_fewshot: CountOrZero | None = None
    """Examples in the prompt; None = the task's own number."""
    limit: Rows | None = None
    label: str | None = None
    """Name in rows and reports; None = `name`. Needed if one task is listed twice."""
    max_new_tokens: Tokens | None = None
    """Limit on generated tokens; None = the task's own, or 256."""
    sampled: bool = False
    """Also sample at temperature 1, beside the task's own decoding (greedy, as a rule)."""
    samples_per_item: Samples = 1
    """How many completions an item gets in the sampled pass."""
    cluster: str | None = None
    """Field of the data whose equal values mark items that depend on each other (two questions
    about one belief, one passage): errors are clustered by it. None = items are independent."""
    split: str | None = None
    """Split of the data that is scored; None = the task's own, its test split as a rule. A study's dev
    items may be rows of `train` that its arms leave out (`skip`)."""
    world_seed: Seed = 0
    """Which generated world, for the tasks of the embedded one."""
    data: str | None = None
    """Folder with local benchmark files; None = the hub by name, or the world's own data."""

    def __post_init__(self) -> None:
        # The harness takes a path for a name too, and runs the code that lies beside that file.
        check_name(self.name, "task name", LABEL)
        if self.label is not None:
            check_name(self.label, "task label", LABEL)
        if self.prompt is not None:
            self.template.check()
        least = {"num_fewshot": 0, "limit": 1, "max_new_tokens": 1, "samples_per_item": 1}
        for field, minimum in least.items():
            value = getattr(self, field)
            if value is not None and value < minimum:
                raise ConfigError(
                    f"task {self.name!r}: {field} must be at least {minimum}, not {value}"
                )

    @property
    def key(self) -> str:
        """What its rows are filed under: the label if it has one, else the name."""
        return self.label or self.name

    @property
    def template(self) -> PromptTemplate:
        """`prompt` as what renders it."""
        return PromptTemplate(self.prompt or "", f"task {self.name!r}: prompt")


@dataclass(frozen=True)
class Question:
    """A task's question by a template of the study file: rendered here, never by the harness.

    What the harness reads from a template it reads from this: a field where the template is a field's name,
    the number of a choice where the text is one and `chooses`.

    >>> Question(PromptTemplate("{{ a }} + 1 =", "prompt"), chooses=False)({"a": 2})
    '2 + 1 ='
    """

    template: PromptTemplate
    chooses: bool

    def __call__(self, document: Mapping[str, Any]) -> Any:
        """The question of one document. Raises ConfigError if the template fails on it."""
        if self.template.text in document:
            return document[self.template.text]
        text = self.template(document)
        return int(text) if self.chooses and text.isdecimal() and text.isascii() else text


@functools.cache
def load(task: Task) -> Mapping[str, ConfigurableTask]:
    """The harness's tasks behind `task` by name: one, or the leaves of a group. Built once.

    Raises ConfigError for an unknown task, filter or metric, for one that would run code of the model or
    of the working directory, for whatever the task's own code raises, for data that the folder does not
    hold, and for a hub that cannot be reached; DataError for a bad row of a local file.
    """
    from lm_eval.api.group import Group
    from lm_eval.tasks.manager import TaskFactory

    registry = dict(_registry_with(task.name))
    for leaf in _leaves(task.name, registry):
        _refuse_unsafe(task, registry[leaf])
    with undisturbed(), guarded(task.name):
        if task.data is not None:
            for leaf in _leaves(task.name, registry):
                registry[leaf] = _with_local_data(registry[leaf], Path(task.data).expanduser())
        if task.prompt or task.split or task.world_seed:
            for leaf in _leaves(task.name, registry):
                registry[leaf] = _with_config(registry[leaf], task)
        try:
            built = TaskFactory().build(registry[task.name], overrides=None, registry=registry)
        except (OSError, RuntimeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ConfigError(
                f"task {task.name!r}: its data could not be loaded ({reason}); "
                "give `data: FOLDER` to read local files"
            ) from error
        loaded = (
            built.get_all_tasks()
            if isinstance(built, Group)
            else (built if isinstance(built, list) else [built])
        )
        leaves: dict[str, Any] = {str(leaf.config.task): leaf for leaf in loaded}
        for leaf in leaves.values():
            _configure(leaf, task)
    return leaves


def _refuse_unsafe(task: Task, entry: Entry) -> None:
    """Refuse a task that runs what the model writes, before the functions that its file names are imported."""
    from lm_eval.tasks.manager import load_yaml

    config = (
        load_yaml(str(entry.yaml_path), resolve_func=False) if entry.yaml_path else entry.cfg or {}
    )
    if config.get("unsafe_code"):
        raise ConfigError(RUNS_CODE.format(task.name))


def filter_of(task: Task, leaf: ConfigurableTask) -> str:
    """The name of the answer filter that `task` reads."""
    names = [str(entry["name"]) for entry in leaf.config.filter_list or [{"name": "none"}]]
    if task.filter is None and len(names) == 1:
        return names[0]
    if task.filter is None:
        raise ConfigError(f"task {task.name!r} has several filters, name one: {', '.join(names)}")
    if task.filter not in names:
        raise ConfigError(
            f"task {task.name!r} has no filter {task.filter!r}; {nearest(task.filter, names)}"
        )
    return task.filter


def _configure(leaf: ConfigurableTask, task: Task) -> None:
    """Set what the study overrides, and refuse what this task cannot give."""
    where = f"task {task.name!r}"
    if leaf.get_config("unsafe_code"):  # set if no file of the task's own says it
        raise ConfigError(RUNS_CODE.format(task.name))
    filter_of(task, leaf)
    metrics = leaf.get_config("metric_list") or []
    # A metric that is a function may expand into several names (`pass_at_k` into `pass@1`).
    fixed = not any(callable(entry["metric"]) for entry in metrics)
    if fixed and task.metric not in (known := leaf.aggregation()):
        raise ConfigError(f"{where} has no metric {task.metric!r}; {nearest(task.metric, known)}")
    if task.num_fewshot is not None or leaf.get_config("num_fewshot") is None:
        leaf.set_config("num_fewshot", task.num_fewshot or 0)
    available = len(leaf.sampler.df)
    if (shots := leaf.get_config("num_fewshot")) > available:
        raise ConfigError(f"{where}: num_fewshot is {shots}, but there are {available} examples")
    if task.max_new_tokens is not None and leaf.OUTPUT_TYPE == "generate_until":
        own = leaf.get_config("generation_kwargs") or {}
        kept = {key: value for key, value in own.items() if key not in LENGTH_KEYS}
        leaf.set_config("generation_kwargs", {**kept, "max_gen_toks": task.max_new_tokens})


# ---- finding a task ---------------------------------------------------------------------------


def _registry_with(name: str) -> Mapping[str, Entry]:
    """An index of task files that holds `name`, as small a one as will do.

    Reading all of the harness's 14,000 task files takes about ten seconds, a folder of them a few
    milliseconds, and nearly every task lies in the folder of its name's first word.
    """
    import lm_eval.tasks

    if name.startswith(WORLD_PREFIX):
        world = _index(str(TASKS_FOLDER))
        if name not in world:
            raise ConfigError(f"unknown task {name!r}; {nearest(name, world)}")
        return world
    folder = Path(lm_eval.tasks.__file__).parent / name.split("_")[0]
    if folder.is_dir() and name in (small := _index(str(folder))):
        return small
    every = _index(None)
    if name not in every:
        near = get_close_matches(name, every, n=3)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else "no name is near"
        raise ConfigError(f"unknown task {name!r}; {hint} (`lm_eval ls tasks` lists all)")
    return every


@functools.cache
def _index(folder: str | None) -> Mapping[str, Entry]:
    """Task files by task, group and tag name: of one folder, or of the whole harness."""
    from lm_eval.tasks import TaskManager

    with undisturbed():
        return TaskManager(include_path=folder, include_defaults=folder is None).task_index


def _leaves(name: str, registry: Mapping[str, Entry]) -> Iterator[str]:
    """Names of the single tasks under a task, group or tag."""
    from lm_eval.tasks.manager import Kind

    entry = registry[name]
    if entry.kind is Kind.TAG:
        members = sorted(entry.tags)
    elif entry.kind is Kind.GROUP:
        members = [
            item if isinstance(item, str) else item.get("task") or item.get("group")
            for item in (entry.cfg or {}).get("task", [])
        ]
    else:
        yield name
        return
    for member in members:
        if isinstance(member, str) and member in registry:
            yield from _leaves(member, registry)


def _with_config(entry: Entry, task: Task) -> Entry:
    """The same task file with another prompt, on another split, or on another generated world."""
    from lm_eval.tasks.manager import load_yaml

    config = load_yaml(str(entry.yaml_path)) if entry.yaml_path else dict(entry.cfg or {})
    if task.prompt is not None:
        config["doc_to_text"] = Question(
            task.template, chooses=config.get("doc_to_choice") is not None
        )
    if task.split is not None:
        config["test_split"] = task.split
    if task.world_seed:
        config["metadata"] = {**config.get("metadata", {}), "seed": task.world_seed}
    return replace(entry, yaml_path=None, cfg=config)


# ---- local data -------------------------------------------------------------------------------


def _with_local_data(entry: Entry, folder: Path) -> Entry:
    """The same task file with its data set replaced: the hub is never asked."""
    from lm_eval.tasks.manager import load_yaml

    config = load_yaml(str(entry.yaml_path))
    path, name = config.get("dataset_path"), config.get("dataset_name")
    reader = READERS.get(str(path))
    splits = reader(folder, name) if reader else None
    if splits is None:
        subset = f"{path}:{name}" if name else str(path)
        raise ConfigError(
            f"task {entry.name!r} wants {subset}, which is not among the local files of {folder} "
            f"(known: {', '.join(sorted(READERS))}); leave `data` out to load it from the hub"
        )
    return replace(entry, yaml_path=None, cfg={**config, "custom_dataset": _as_dataset(splits)})


def _as_dataset(splits: Splits) -> Callable[..., datasets.DatasetDict]:
    """What a task file's `custom_dataset` must be: called with the task's metadata."""

    def custom_dataset(**_metadata: object) -> datasets.DatasetDict:
        import datasets

        return datasets.DatasetDict(
            {s: datasets.Dataset.from_list(rows) for s, rows in splits.items()}
        )

    return custom_dataset
