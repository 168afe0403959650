"""Train on test: items of the study's tasks that stand in an arm's prompts."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from statewise.check.finding import Line
from statewise.check.subject import Fit
from statewise.evaluate import Task
from statewise.evaluate.guarded import guarded
from statewise.evaluate.isolation import compiled_templates, undisturbed
from statewise.evaluate.tasks import load
from statewise.study.spec import Study

PROMPTS_COMPARED = 20_000
"""Most prompts of a stream that are read."""
KEY_WORDS = 6
"""An item of so many words is searched inside of prompts; a shorter one must be a whole prompt."""

Words = tuple[str, ...]
Split = Literal["test", "dev"]


@dataclass(frozen=True, slots=True)
class Item:
    """One item that is measured: its words without what all items of its task share."""

    id: str
    split: Split
    words: Words


def words(text: str) -> Words:
    """A text as words, without case, punctuation and forms of one character.

    >>> words("Ann's 3 apples, THREE!")
    ('ann', 's', '3', 'apples', 'three')
    """
    return tuple(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def held_out(study: Study) -> list[Item]:
    """Items that the study measures arms on (test), or chooses by (dev): the first `limit` of each task.

    Raises ConfigError and DataError as loading a task does.
    """
    rules = (study.dev, study.search)
    items = [item for task in study.tasks for item in _items(task, "test")]
    items += [item for rule in rules if rule for item in _items(rule.task, "dev")]
    found: dict[tuple[str, Words], Item] = {}
    for item in items:
        found.setdefault((item.id, item.words), item)
    return list(found.values())


def _items(task: Task, split: Split) -> list[Item]:
    items = []
    leaves = load(task)
    for name, leaf in leaves.items():
        prefix = task.key if len(leaves) == 1 else f"{task.key}/{name}"
        documents: list[Any] = list(islice(leaf.eval_docs, task.limit))
        with undisturbed(), compiled_templates(), guarded(task.name):
            texts: list[Any] = [leaf.doc_to_text(document) for document in documents]
        asked = _without_shared([words(t) if isinstance(t, str) else () for t in texts])
        for number, (document, text) in enumerate(zip(documents, asked, strict=True)):
            question = document.get("question")
            forms = {text, words(question) if isinstance(question, str) else ()} - {()}
            items += [Item(f"{prefix}/{number}", split, form) for form in forms]
    return items


def overlap(fits: Sequence[Fit], items: Sequence[Item]) -> Line:
    """Items whose every word stands, in a row, in a prompt or its gold completion.

    A test item among them fails: its score is memory. A dev item warns: what is chosen by it
    (a rate, a checkpoint) is chosen on trained text.
    """
    name = "train/test overlap"
    index = _Index(items)
    hits: dict[str, tuple[Item, str]] = {}
    read = every = 0
    for fit in fits:
        prompts = [fit.prompts.items[i] for i in range(min(PROMPTS_COMPARED, len(fit.prompts)))]
        read, every = read + len(prompts), every + len(fit.prompts)
        bare = _without_shared([words(p.text) for p in prompts])
        for prompt, whole in zip(prompts, bare, strict=True):
            for item in index.found_in(words(f"{prompt.text} {prompt.reference or ''}"), whole):
                hits.setdefault(item.id, (item, prompt.id))
    counts = {split: len({i.id for i in items if i.split == split}) for split in ("test", "dev")}
    struck = {s: [hit for hit in hits.values() if hit[0].split == s] for s in ("test", "dev")}
    values = {
        "prompts": read,
        **{f"{s}_items": counts[s] for s in counts},
        **{f"{s}_items_in_prompts": len(struck[s]) for s in struck},
    }
    of = f"{read:,} prompts" if read == every else f"the first {read:,} of {every:,} prompts"
    if not hits:
        figure = f"none of {counts['test']:,} test and {counts['dev']:,} dev items stands in {of}"
        return Line("pass", name, figure, values=values)
    item, prompt_id = (struck["test"] or struck["dev"])[0]
    figure = (
        f"{len(struck['test'])} of {counts['test']:,} test and {len(struck['dev'])} of {counts['dev']:,} dev items "
        f"stand in {of}; first: {item.id} in {prompt_id}"
    )
    fix = "leave these rows out of the arm's prompts (another split, skip, limit), or measure on other items"
    return Line("fail" if struck["test"] else "warn", name, figure, fix, values)


class _Index:
    """Items by their first words, so that a prompt is read once however many items there are."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.by_key: dict[Words, list[Item]] = defaultdict(list)
        self.short: dict[Words, list[Item]] = defaultdict(list)
        for item in items:
            if len(item.words) < KEY_WORDS:
                self.short[item.words].append(item)
            else:
                self.by_key[item.words[:KEY_WORDS]].append(item)

    def found_in(self, text: Words, whole: Words) -> list[Item]:
        """Items inside of `text`, and short ones that are `whole`."""
        found = list(self.short.get(whole, ()))
        for start in range(len(text) - KEY_WORDS + 1):
            near = self.by_key.get(text[start : start + KEY_WORDS], ())
            found += [i for i in near if text[start : start + len(i.words)] == i.words]
        return found


def _without_shared(texts: list[Words]) -> list[Words]:
    """Texts without the words that all of them begin and end with: the template's.

    >>> _without_shared([("question", "a", "answer"), ("question", "b", "answer")])
    [('a',), ('b',)]
    """
    if len(texts) < 2:
        return texts
    first = _shared(texts)
    rest = [text[first:] for text in texts]
    last = _shared([text[::-1] for text in rest])
    return [text[: len(text) - last] for text in rest]


def _shared(texts: list[Words]) -> int:
    """How many words all texts begin with."""
    count = 0
    for column in zip(*texts, strict=False):
        if len(set(column)) > 1:
            break
        count += 1
    return count
