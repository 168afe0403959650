"""Words of which facts and beliefs are made: invented names and pools of values."""

from __future__ import annotations

from functools import cache

from statewise.world.splits import rng_for

_STARTS = (
    "Bal Bex Bri Cal Cor Dal Dor Dru Fal Fen Gal Gor Gri Hal Hex Jar Jol Kal Ken Kri "
    "Lar Lom Mar Mel Mor Nal Nev Or Pel Pra Quo Ral Ros Sel Sor Tal Tre Val Vor Zan"
)
_ENDS = (
    "ba bek bin da dor dun fa fel fin ga gon gus ka kel kin la lix lon ma mel "
    "mir na nex nor pa pil po ra rix ron sa sel sun ta tis tor va vek vin zo"
)

POOLS: dict[str, tuple[str, ...]] = {
    name: tuple(words.split())
    for name, words in {
        "colour": "red blue green white black pink grey brown gold silver orange violet",
        "region": "north south east west coast delta valley hills desert forest marsh plain",
        "month": "January March April May June July August October winter spring summer autumn",
        "metal": "iron copper tin lead zinc nickel cobalt bronze brass steel chrome mercury",
        "animal": "wolf bear fox eagle horse lion crow snake deer goat owl fish",
        "trade": "fishing weaving mining baking hunting sailing brewing wool glass salt silk wine",
        "tool": "drum flute harp horn bell lute violin organ piano guitar pipe voice",
        "shape": "round square flat long oval curved pointed hollow twisted thin wide star",
        "taste": "sweet sour bitter salty spicy mild fresh sharp smoky nutty bland fruity",
        "food": "grass seeds honey rice bread milk meat corn roots leaves berries insects",
        "ill": "fever cough pain burns colds rash cramps stings nausea fatigue anemia gout",
        "fate": "war peace flood plague famine fire storm revolt trade exile treaty harvest",
    }.items()
}
"""Twelve values a pool: a guess at an open question is right once in twelve, at four choices once
in four."""


@cache
def names(seed: int, group: str, count: int) -> tuple[str, ...]:
    """Distinct invented names of a group; the groups `facts` and `beliefs` share none.

    >>> set(names(0, "facts", 640)) & set(names(0, "beliefs", 320))
    set()
    """
    everything = [start + end for start in _STARTS.split() for end in _ENDS.split()]
    rng_for(seed, "names").shuffle(everything)
    half = len(everything) // 2
    pool = everything[:half] if group == "facts" else everything[half:]
    if count > len(pool):
        raise ValueError(f"{count} names wanted of group {group!r}, there are {len(pool)}")
    return tuple(pool[:count])


@cache
def zipf_cumulative(
    seed: int, group: str, count: int, exponent: float, offset: int
) -> tuple[float, ...]:
    """Cumulative weights `(rank + offset) ** -exponent`, ranks dealt at random to `count` items.

    >>> weights = zipf_cumulative(0, "example", 3, 1.0, 1)
    >>> round(weights[-1], 3) == round(1 + 1 / 2 + 1 / 3, 3)
    True
    """
    ranks = list(range(count))
    rng_for(seed, "ranks", group).shuffle(ranks)
    total, cumulative = 0.0, []
    for rank in ranks:
        total += (rank + offset) ** -exponent
        cumulative.append(total)
    return tuple(cumulative)
