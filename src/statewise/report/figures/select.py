"""Reading `Results.probes` for figures: which numbers there are, and how states are called."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from statewise.formatting import interval_words, number
from statewise.results.types import ProbeFigure, Results

ROLES = ("dataset", "base", "learner", "teacher", "retention", "again")
NAMES = {
    "dataset": "dataset",
    "base": "the base's own",
    "learner": "the arm's own",
    "teacher": "its teacher's",
    "retention": "retention",
    "again": "the base's own again",
}
IN_TABLE = "labels of cells and the table give"
"""How a grid shows intervals."""
MISSING = (
    "No probes in this run: name them in the study file under `probes` (after: [locality, splice, ...]) and give "
    "the same `statewise run` again; nothing that is finished is done twice."
)
NO_MICROSCOPE = (
    "No completions to look into: say `probes: {microscope: 40}` in the study file and give the same "
    "`statewise run` again."
)


def select(
    results: Results, probe: str, measure: str | None = None, sample: str | None = None
) -> list[ProbeFigure]:
    """The numbers of a probe, in the order of the study."""
    return [
        figure
        for figure in results.probes
        if figure.probe == probe
        and (measure is None or figure.measure == measure)
        and (sample is None or figure.sample == sample)
    ]


def role(sample: str) -> str:
    """Whose states a sample holds, whichever the arm: the teacher's name is left out.

    >>> role("teacher:stress_sft"), role("learner"), role("retention/learner")
    ('teacher', 'learner', 'retention/learner')
    """
    return sample.split(":", 1)[0] if sample.startswith("teacher:") else sample


def places(samples: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Samples of (arm, sample), each with its column: the role, in the order of `ROLES`, then others.

    Teachers of different arms share a column, unless some arm has several: then each has its own.

    >>> places([("a", "teacher:t"), ("b", "teacher:u"), ("a", "base")])
    {'base': 'base', 'teacher:t': 'teacher', 'teacher:u': 'teacher'}
    >>> places([("a", "teacher:t"), ("a", "teacher:u")])
    {'teacher:t': 'teacher:t', 'teacher:u': 'teacher:u'}
    """
    known = list(dict.fromkeys(samples))
    taught = [arm for arm, sample in known if role(sample) == "teacher"]
    apart = len(set(taught)) < len(taught)
    order = {name: i for i, name in enumerate(ROLES)}
    found = sorted(
        dict.fromkeys(sample for _, sample in known), key=lambda s: order.get(role(s), len(order))
    )
    return {sample: sample if apart else role(sample) for sample in found}


def states(sample: str) -> str:
    """A column's name for a reader; a teacher that is not alone has its own.

    >>> states("learner"), states("teacher"), states("teacher:mild_sft")
    ("the arm's own", "its teacher's", "mild_sft's")
    """
    return NAMES.get(sample) or (
        f"{sample.removeprefix('teacher:')}'s" if sample.startswith("teacher:") else sample
    )


def arms_of(results: Results, figures: Sequence[ProbeFigure]) -> list[str]:
    """Arms that occur as a policy, in the order of the study."""
    present = {figure.policy for figure in figures}
    known = [arm.name for arm in results.arms if arm.name in present]
    return known + sorted(present - set(known))


TAUGHT = ("fidelity", "repair", "signal_tail", "signal_mass", "overlap", "exposure")
"""Probes of a student and its teacher: `reference` is the teacher."""


def teachers(results: Results) -> dict[str, list[str]]:
    """The teachers of every arm that a probe asked about one, in the order of their numbers."""
    found: dict[str, list[str]] = {}
    for figure in results.probes:
        if figure.probe in TAUGHT and figure.policy != figure.reference:
            known = found.setdefault(figure.policy, [])
            if figure.reference and figure.reference not in known:
                known.append(figure.reference)
    return found


def pair(figure: ProbeFigure) -> tuple[str, str]:
    """Whom a number of a student and its teacher is about."""
    return figure.policy, figure.reference


def pairs(
    results: Results, figures: Sequence[ProbeFigure]
) -> dict[tuple[str, str], tuple[str, int]]:
    """Students and teachers in the order of the study: how a pair is called, and the teacher's place.

    A pair is called by its student; where that has several teachers, by both.
    """
    found: dict[str, list[str]] = {arm: [] for arm in arms_of(results, figures)}
    for figure in figures:
        if figure.reference not in found[figure.policy]:
            found[figure.policy].append(figure.reference)
    return {
        (arm, teacher): (f"{arm} ({teacher})" if len(known) > 1 else arm, place)
        for arm, known in found.items()
        for place, teacher in enumerate(known)
    }


def taught_cells(
    named: Mapping[tuple[str, str], tuple[str, int]],
) -> tuple[tuple[str, ...], Callable[[ProbeFigure], tuple[str, ...]]]:
    """First columns of a table: the arm, and its teacher where some arm has several."""
    if not any(place for _, place in named.values()):
        return ("arm",), lambda figure: (figure.policy,)
    return ("arm", "teacher"), pair


def depth(at: str) -> int:
    """The depth at which a bin or a cut begins.

    >>> depth("8-15"), depth("1024-"), depth("teacher 24")
    (8, 1024, 24)
    """
    found = re.search(r"\d+", at)
    return int(found[0]) if found else -1


def cells(figure: ProbeFigure, digits: int = 3) -> tuple[str, str, str]:
    """Value, interval and n of a number, for a table; n counts what its interval ranges over."""
    e = figure.quantity.estimate
    return number(e.value, digits), interval_words(e, digits), over(figure)


def over(figure: ProbeFigure) -> str:
    """N of a table: seeds are called so; where an interval is of one seed, states or completions are counted.

    >>> from statewise.stats import Estimate
    >>> from statewise.results.types import Quantity
    >>> q = Quantity(Estimate(0.1, None, 3, "nats"), "seeds only")
    >>> over(ProbeFigure("locality", "a", "base", "learner", "kappa", "", q, "nats"))
    '3 seeds'
    """
    n, items = figure.quantity.estimate.n, figure.quantity.over == "items"
    return f"{n:,}" if items else f"{n} {'seed' if n == 1 else 'seeds'}"


def counted(
    figures: Sequence[ProbeFigure],
    where: str = "bars are",
    *,
    of: str = "states",
    error: str = "clustered by prompt",
) -> str:
    """What a caption says of n: the seeds behind the numbers, or what the probe counts where there is one seed.

    `where` leads over to the intervals: a grid has no bars and gives them in labels and table. `of` is the
    noun of the probe's own n, `error` how the probe comes by its error.

    >>> from statewise.stats import Estimate
    >>> from statewise.results.types import Quantity
    >>> q = Quantity(Estimate(0.1, 0.1, 4, "cosine", -0.1, 0.3), "items")
    >>> found = [ProbeFigure("gradients", "base", "", "", "cosines", "a~b", q, "cosine")]
    >>> counted(found, of="blocks of prompts", error="by jackknife over them")
    'n = 4 blocks of prompts of one seed; bars are 95 % intervals by jackknife over them'
    """
    seeds = {f.quantity.estimate.n for f in figures if f.quantity.over != "items"}
    items = {f.quantity.estimate.n for f in figures if f.quantity.over == "items"}
    words = []
    if seeds:
        words.append(
            f"n = {_range(seeds)} seed{'' if seeds == {1} else 's'}; {where} 95 % t intervals over seeds"
        )
    if items:
        words.append(f"n = {_range(items)} {of} of one seed; {where} 95 % intervals {error}")
    return "; ".join(words) or "n unknown"


def _range(numbers: Iterable[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
