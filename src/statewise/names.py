"""What a name is: of a study, an arm, a null, a claim, a task, a label.

Names become folders and files, keys of `--set` and words of a report. So a name is a word: it begins with a letter
or a digit, goes on with those and a few marks, and two names of one kind differ in more than case or in how
a character is encoded. It can name no path, whatever it is joined to.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from statewise.errors import ConfigError

MAX_BYTES = 100
"""Longest name, in bytes of UTF-8: a file system takes 255, and a suffix must fit behind it."""
WORD = "-_"
"""What may stand inside of any name beside letters and digits."""
FOLDER = WORD + "."
"""Inside of the name of a study, which is a folder."""
LABEL = FOLDER + " +()"
"""Inside of a task's name or label: the harness has some with brackets."""


def check_name(name: object, what: str, inside: str = WORD) -> None:
    """Refuse what is no name. Raises ConfigError that begins with `what`.

    >>> check_name("mild_sft", "arm name")
    >>> check_name("../../x", "arm name")
    Traceback (most recent call last):
    statewise.errors.ConfigError: arm name '../../x': a name begins with a letter or a digit
    >>> check_name("a/b", "arm name")
    Traceback (most recent call last):
    statewise.errors.ConfigError: arm name 'a/b': '/' cannot stand in it; use letters, digits and - _
    """
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{what}: a name is a word, found {name!r}")
    shown = f"{what} {(name if len(name) <= 60 else name[:57] + '...')!r}"
    if not name[0].isalnum():
        raise ConfigError(f"{shown}: a name begins with a letter or a digit")
    for character in name:
        if not (_is_letter(character) or character in inside):
            marks = " ".join(inside.replace(" ", "")) + (" and spaces" if " " in inside else "")
            raise ConfigError(
                f"{shown}: {character!r} cannot stand in it; use letters, digits and {marks}"
            )
    if name[-1] in " .":
        raise ConfigError(f"{shown}: {name[-1]!r} cannot end it")
    if (size := len(name.encode())) > MAX_BYTES:
        raise ConfigError(f"{shown}: {size} bytes are too long for a file; {MAX_BYTES} at most")


def check_distinct(names: Iterable[str], what: str) -> None:
    """Refuse names that are equal, or that a file system or a reader may take for equal.

    >>> check_distinct(["grpo", "GRPO"], "arm names")
    Traceback (most recent call last):
    statewise.errors.ConfigError: arm names 'grpo' and 'GRPO' differ in case or spelling of characters alone; \
rename one
    """
    seen: dict[str, str] = {}
    for name in names:
        first = seen.get(folded(name))
        if first == name:
            raise ConfigError(f"{what}: {name!r} is there twice; rename one")
        if first is not None:
            raise ConfigError(
                f"{what} {first!r} and {name!r} differ in case or spelling of characters alone; rename one"
            )
        seen[folded(name)] = name


def folded(name: str) -> str:
    """A name as a file system that knows no case would compare it.

    >>> folded("ＧＲＰＯ"), folded("Straße")
    ('grpo', 'strasse')
    """
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def _is_letter(character: str) -> bool:
    """A letter or digit of any script, or a mark that belongs to the letter before it."""
    return character.isalnum() or unicodedata.category(character).startswith("M")
