r"""The value of a final answer, however it is written: `18`, `18.00`, `$18`, `−18` or `\boxed{18}`.

The harness's GSM8K filters compare text with text, so they miss right answers that are written
another way. This reading compares values. Where the answer stands, first match wins:

1. behind the first `####`, with or without a space, a currency sign or emphasis;
2. in the last `\boxed{...}`;
3. behind the last `answer is`, `answer:` or `answer =`;
4. anywhere: the last number of the text.

What a number is: digits (full-width ones too) with an optional decimal part (`.5` is one half),
thousands commas (or narrow spaces) in groups of three, one optional sign, one optional currency sign,
and an optional `/` with another number behind it (`1/2`, `\frac{1}{2}`, `½`); a whole number before a
proper fraction is added to it (`3 1/2`). A minus sign may be U+2212 or a hyphen or dash of Unicode's. A
minus behind a digit, a letter or a closing bracket subtracts: the last number of `5-3` is 3, not -3.
Units, percent signs and words beside the number do not count; dots alone (`..`, `...`) are no number,
nor is a part of one: `1.2.3`, `1e3`, `1_000`, `10²` and `2^10` hold none.
"""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

MOST_DIGITS = 1000
"""A longer number is no answer; Python refuses to convert text of more than 4,300 digits."""

_DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212\ufe63\uff0d", "-"))
_NARROW_SPACE = re.compile(r"(?<=[0-9])[\u00a0\u2009\u202f](?=[0-9]{3}(?![0-9]))")
_FRACTION = re.compile(r"\\[dt]?frac\s*(?:\{([^{}]*)\}\s*\{([^{}]*)\}|([0-9])\s*([0-9]))")
_VULGAR = re.compile("[\u00bc-\u00be\u2150-\u215e]")
_FULL_WIDTH = str.maketrans({0xFF01 + n: 0x21 + n for n in range(94)} | {0xA0: " ", 0x202F: " "})
_CURRENCY = "[$€£¥]"
_UNSIGNED = r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+"
_POWERS = "\u2070\u00b9\u00b2\u00b3\u2074-\u2079"
_BORDER = rf"(?![0-9_^{_POWERS}]|[.,'][0-9]|[eE][-+]?[0-9])"
_NUMBER = re.compile(
    rf"(?<![0-9A-Za-z_.,'^])(?P<sign>(?<![)\]}}])[-+])?(?:{_CURRENCY}(?P<inner>[-+])?)?"
    rf"(?:(?P<whole>[0-9]+) (?=[0-9]+/[0-9]))?"
    rf"(?P<value>{_UNSIGNED}){_BORDER}(?:\s?/\s?(?P<below>{_UNSIGNED}){_BORDER})?"
)
_MARK = re.compile(r"####")
_BEHIND_MARK = re.compile(rf"[ \t*_`(\[]*(?P<sign>[-+])?[ \t]*(?={_CURRENCY}?[-+]?\.?[0-9])")
_PHRASE = re.compile(r"\banswer\s*(?:is|:|=)", re.IGNORECASE)


def lenient_answer(text: str) -> Fraction | None:
    r"""The value of the final answer of a text, by the rules above; None if there is no number.

    >>> [str(lenient_answer(t)) for t in ("The answer is 18.00", "#### \u22125", "#### $70,000", "#### .5")]
    ['18', '-5', '70000', '1/2']
    >>> [str(lenient_answer(t)) for t in ("10-10=0, so 10 ... ", "it is 5-3", "so \\boxed{3}.", "..")]
    ['10', '3', '3', 'None']
    """
    text = _NARROW_SPACE.sub(",", text).translate(_DASHES).translate(_FULL_WIDTH)
    text = _FRACTION.sub(lambda m: f"{m[1] or m[3]}/{m[2] or m[4]}", text)
    text = _VULGAR.sub(
        lambda m: f" {unicodedata.normalize('NFKC', m[0]).replace(chr(0x2044), '/')}", text
    )
    text = text.replace("\\$", "$").replace("{,}", ",").replace("\\!", "").replace("\\,", "")
    mark = _MARK.search(text)
    if mark and (found := _behind(text[mark.end() :])) is not None:
        return found
    boxed = text.rfind("\\boxed{")
    if boxed >= 0 and (found := _last(_braced(text[boxed + len("\\boxed{") :]))) is not None:
        return found
    phrases = list(_PHRASE.finditer(text))
    if phrases:
        numbers = _values(text[phrases[-1].end() :].split("\n", 1)[0])
        if numbers:
            return numbers[0]
    return _last(text)


def _behind(text: str) -> Fraction | None:
    """The number that follows the mark at once; None if something else does."""
    start = _BEHIND_MARK.match(text)
    if start is None:
        return None
    found = _NUMBER.match(text, start.end())
    value = None if found is None else _value(found)
    return -value if value is not None and start["sign"] == "-" else value


def _last(text: str) -> Fraction | None:
    values = _values(text)
    return values[-1] if values else None


def _values(text: str) -> list[Fraction]:
    return [value for found in _NUMBER.finditer(text) if (value := _value(found)) is not None]


def _value(found: re.Match[str]) -> Fraction | None:
    above, below = found["value"].replace(",", ""), (found["below"] or "1").replace(",", "")
    if len(above) > MOST_DIGITS or len(below) > MOST_DIGITS or not Fraction(below):
        return None
    value = Fraction(above) / Fraction(below)
    if found["whole"] and len(found["whole"]) <= MOST_DIGITS:
        if value >= 1:  # "5 10/2" is no mixed number: the fraction stands for itself
            return value
        value += int(found["whole"])
    return -value if "-" in (found["sign"], found["inner"]) else value


def _braced(text: str) -> str:
    """What stands before the brace that closes the one before `text`; all of it if none does."""
    depth = 1
    for place, letter in enumerate(text):
        depth += (letter == "{") - (letter == "}")
        if depth == 0:
            return text[:place]
    return text
