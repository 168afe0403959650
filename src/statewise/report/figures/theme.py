"""The colours of a page, once: light and dark side by side, as CSS and as plain values.

Every text colour passes WCAG AA on its ground in both themes (`tests/report/test_report.py`). The
sequential scale is one hue from the page's ground outwards and the diverging one orange and blue:
both keep their order without colour vision. Cells of the first five steps (and the inner five of the
diverging scale) carry `ink`, the others `surface`.
"""

from __future__ import annotations

LIGHT_AND_DARK = {
    "surface": ("#ffffff", "#111318"),
    "raised": ("#f6f7f9", "#1a1d24"),
    "ink": ("#16181d", "#eceef2"),
    "muted": ("#5a6270", "#a3abb8"),
    "rule": ("#d9dde3", "#343944"),
    "link": ("#0b57a4", "#7cb8f2"),
    "good": ("#00714f", "#4cc99a"),
    "bad": ("#b3261e", "#ff8a80"),
    "open": ("#7a5b00", "#e3be58"),
    "good-soft": ("#e3f4ec", "#12312a"),
    "bad-soft": ("#fdeceb", "#3a1c1b"),
    "open-soft": ("#fbf3d9", "#332a10"),
    "arm0": ("#0067ad", "#5db2f2"),
    "arm1": ("#b54a00", "#ff9355"),
    "arm2": ("#00755a", "#41c9a1"),
    "arm3": ("#a2447d", "#e58fc3"),
    "arm4": ("#806000", "#dcb545"),
    "arm5": ("#5a49b8", "#ab9ffb"),
    "arm6": ("#00707c", "#4fc6d3"),
    "arm7": ("#8c2f39", "#f0909a"),
    "heat0": ("#f2f6fb", "#18212b"),
    "heat1": ("#dbe9f6", "#1b3247"),
    "heat2": ("#bdd7ec", "#1f4562"),
    "heat3": ("#94c0e0", "#245980"),
    "heat4": ("#6badd8", "#2c6c99"),
    "heat5": ("#2f77b0", "#559fd5"),
    "heat6": ("#1f6099", "#7db8e6"),
    "heat7": ("#114a7d", "#a8d1f2"),
    "heat8": ("#08315a", "#d6eafb"),
    "div0": ("#8a3b00", "#ffbd85"),
    "div1": ("#ad520c", "#e08a42"),
    "div2": ("#e9a765", "#8a4a14"),
    "div3": ("#f8dcc0", "#4a2c12"),
    "div4": ("#f1f2f5", "#22262e"),
    "div5": ("#cfe3f4", "#17354f"),
    "div6": ("#88bade", "#1f5580"),
    "div7": ("#2f77b0", "#5ba3d9"),
    "div8": ("#0f4a80", "#a9d5f7"),
    "student": ("#d6e8f9", "#1b3d5e"),
    "teacher": ("#fbdcc0", "#5a3312"),
    "dataset": ("#d2efe2", "#15463a"),
    "blend": ("#eadcf3", "#44305a"),
}
"""Variable: its value on a light ground, and on a dark one."""
PRINT = {
    "raised": "#ffffff",
    "ink": "#000000",
    "muted": "#4a4f57",
    "rule": "#c8ccd2",
    "link": "#000000",
    "good-soft": "#ffffff",
    "bad-soft": "#ffffff",
    "open-soft": "#ffffff",
}
"""What differs from the light theme on paper."""
STEPS = 9
"""Steps of either scale."""


def light() -> dict[str, str]:
    """The light theme, for a picture that a paper takes as it is."""
    return {name: pair[0] for name, pair in LIGHT_AND_DARK.items()}


def dark_text(scale: str, step: int) -> bool:
    """True where text on this step of `heat` or `div` is `ink`, False where it is `surface`.

    >>> dark_text("heat", 4), dark_text("heat", 5), dark_text("div", 1), dark_text("div", 4)
    (True, False, False, True)
    """
    return step <= 4 if scale == "heat" else 2 <= step <= 6


def css() -> str:
    """The variables for a page: the system's choice, overruled by `data-theme` on the root, light in print."""
    bright = _block(light())
    dark = _block({name: pair[1] for name, pair in LIGHT_AND_DARK.items()})
    return (
        f":root {{ color-scheme: light dark; {bright} }}\n"
        f'@media screen and (prefers-color-scheme: dark) {{ :root:not([data-theme="light"]) {{ {dark} }} }}\n'
        f'@media screen {{ :root[data-theme="dark"] {{ color-scheme: dark; {dark} }} '
        f':root[data-theme="light"] {{ color-scheme: light; }} }}\n'
        f"@media print {{ :root {{ color-scheme: light; {_block(PRINT)} }} }}\n"
        f"{_scales()}"
    )


def picture_css(svg: str) -> str:
    """The variables that a picture names, for a file of its own that follows the reader's theme."""
    used = {name: pair for name, pair in LIGHT_AND_DARK.items() if f"var(--{name})" in svg}
    used |= {"surface": LIGHT_AND_DARK["surface"]}
    bright = _block({name: pair[0] for name, pair in used.items()})
    dark = _block({name: pair[1] for name, pair in used.items()})
    return f":root {{ {bright} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"


def _block(values: dict[str, str]) -> str:
    return " ".join(f"--{name}: {value};" for name, value in values.items())


def _scales() -> str:
    """Classes `heat0`... and `div0`...: ground and text of a step."""
    return "".join(
        f".{scale}{i} {{ background: var(--{scale}{i}); "
        f"color: var(--{'ink' if dark_text(scale, i) else 'surface'}); }}\n"
        for scale in ("heat", "div")
        for i in range(STEPS)
    )
