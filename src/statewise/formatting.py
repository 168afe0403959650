"""Numbers as terminals and reports write them."""

from __future__ import annotations

from statewise.stats import Estimate

MINUS = "\N{MINUS SIGN}"
DASH = "–"


def number(value: float, digits: int = 3, *, sign: bool = False) -> str:
    """A fixed number of digits and a true minus sign.

    >>> number(-0.0412), number(0.5, sign=True), number(-0.0001)
    ('−0.041', '+0.500', '0.000')
    """
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return f"{MINUS if value < 0 else '+' if sign else ''}{text}"


def interval_words(estimate: Estimate, digits: int = 3) -> str:
    """The interval in brackets, or that it is unknown.

    >>> interval_words(Estimate(0.5, 0.1, 3, "share", 0.3, 0.7))
    '[0.300, 0.700]'
    >>> interval_words(Estimate(0.5, None, 1, "share"))
    '[unknown]'
    """
    if estimate.low is None or estimate.high is None:
        return "[unknown]"
    return f"[{number(estimate.low, digits)}, {number(estimate.high, digits)}]"


def value_and_error(estimate: Estimate, digits: int = 3) -> str:
    r"""A value and its interval in few characters: half its width, or both ends where `±` would lie.

    It would where an end is off by the last digit or more: beside a bound that shares cannot pass.

    >>> value_and_error(Estimate(0.5, 0.1, 3, "share", 0.3, 0.7))
    '0.500\n±0.200'
    >>> value_and_error(Estimate(0.98, 0.02, 3, "share", 0.93, 1.0))
    '0.980\n0.930–\n1.000'
    >>> value_and_error(Estimate(0.5, None, 1, "share"))
    '0.500'
    """
    value = number(estimate.value, digits)
    if estimate.low is None or estimate.high is None:
        return value
    if abs(estimate.high + estimate.low - 2 * estimate.value) >= 2 * 10**-digits:
        return f"{value}\n{number(estimate.low, digits)}{DASH}\n{number(estimate.high, digits)}"
    return f"{value}\n±{(estimate.high - estimate.low) / 2:.{digits}f}"


def amount(value: float | None) -> str:
    """A count in short form.

    >>> amount(1_234_567.0), amount(12_300.0), amount(640.0), amount(None)
    ('1.23 M', '12.3 k', '640', '–')
    """
    if value is None:
        return DASH
    for scale, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= scale:
            return f"{value / scale:.3g} {unit}"
    return f"{value:.4g}"


def percent(share: float | None) -> str:
    """A share as a percentage with one digit.

    >>> percent(0.0123), percent(None)
    ('1.2 %', '–')
    """
    return DASH if share is None else f"{100 * share:.1f} %"


def duration(seconds: float | None) -> str:
    """Wall time for a reader.

    >>> duration(41.2), duration(163.0), duration(7300.0)
    ('41 s', '2 min 43 s', '2 h 1 min')
    """
    if seconds is None:
        return DASH
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
