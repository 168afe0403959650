"""Matplotlib figures as small, themed, labelled SVG.

Why matplotlib: the report must draw without a browser, a network or a build step, the same picture
must stand in `report.html`, in `report.md` and in a README, and a script library that redraws in
the page (Plotly 4.5 MB, Vega 0.8 MB and its need of `unsafe-eval`) buys little for points and
lines. What a page needs is added here: text stays text, colours become the page's CSS variables (so
one picture serves light, dark and print), and every mark can carry a label that a pointer, the
keyboard and a screen reader find.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO, StringIO
from typing import Any
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import to_hex, to_rgba
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from statewise.report.figures import theme

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
ET.register_namespace("", SVG)

# Matplotlib draws in these stand-ins; `themed` replaces each by the variable of the page.
INK, MUTED, RULE, SURFACE = "#010101", "#020202", "#030303", "#040404"
ARM_COLOURS = tuple(f"#0500{i:02x}" for i in range(8))
GOOD, BAD, OPEN = "#060601", "#060602", "#060603"
HEAT = tuple(f"#0601{i:02x}" for i in range(theme.STEPS))
DIVERGING = tuple(f"#0602{i:02x}" for i in range(theme.STEPS))
VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    SURFACE: "var(--surface)",
    GOOD: "var(--good)",
    BAD: "var(--bad)",
    OPEN: "var(--open)",
    **{colour: f"var(--arm{i})" for i, colour in enumerate(ARM_COLOURS)},
    **{colour: f"var(--heat{i})" for i, colour in enumerate(HEAT)},
    **{colour: f"var(--div{i})" for i, colour in enumerate(DIVERGING)},
}

LABEL = "label:"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.titlesize": 11,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.unicode_minus": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "figure.facecolor": "none",
    "lines.solid_capstyle": "butt",
}


DASHES = ("-", (0, (5.0, 2.0)), (0, (1.0, 1.5)))
"""Lines of one colour that must be told apart."""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A drawn figure: themed SVG for the page, and the figure that other formats are made of."""

    svg: str
    figure: Figure


def canvas(width: int, height: int) -> tuple[Figure, Axes]:
    """A figure of `width` x `height` CSS pixels with one axes, in the report's style."""
    with mpl.rc_context(STYLE):
        figure = Figure(
            figsize=(width / 72, height / 72),
            dpi=72,
            layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.06),
        )
        FigureCanvasSVG(figure)
        return figure, figure.add_subplot()


def label(artists: Artist | Sequence[Artist], text: str) -> None:
    """Give marks a label for pointer, keyboard and screen reader."""
    for artist in [artists] if isinstance(artists, Artist) else artists:
        artist.set_gid(LABEL + text)


def themed(figure: Figure, name: str, title: str) -> Picture:
    """The figure with its SVG element for the page: variables for colours, no style attributes.

    Style attributes are written as presentation attributes, since the page's content policy allows
    no inline style; ids carry `name`, so that figures share a page.
    """
    buffer = StringIO()
    style: dict[Any, Any] = {**STYLE, "svg.hashsalt": name}  # the same figure, the same bytes
    with mpl.rc_context(style):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    root = ET.fromstring(buffer.getvalue())  # noqa: S314 - our own drawing
    for unwanted in [*root.findall(f"{{{SVG}}}metadata")]:
        root.remove(unwanted)
    # Matplotlib's <style> would be refused by the page's policy: what it says is inherited from the root.
    for parent in list(root.iter()):
        for sheet in parent.findall(f"{{{SVG}}}style"):
            parent.remove(sheet)
    root.set("stroke-linejoin", "round")
    root.set("stroke-linecap", "butt")
    for element in root.iter():
        _plain(element, name)
    width, height = (float(v) for v in root.attrib["viewBox"].split()[2:])
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.set("role", "group")
    root.set("aria-label", title)
    root.set("class", "plot")
    root.set("viewBox", f"0 0 {width:g} {height:g}")
    text = ET.tostring(root, encoding="unicode")
    for stand_in, variable in VARIABLES.items():
        text = text.replace(stand_in, variable)
    return Picture(re.sub(r"\n\s*", "\n", text), figure)


COORDINATES = {"d", "x", "y", "x1", "y1", "x2", "y2", "width", "height", "transform", "points"}


def _plain(element: ET.Element, name: str) -> None:
    for key in COORDINATES & element.attrib.keys():  # a hundredth of a pixel is enough
        element.set(key, re.sub(r"(\d+\.\d{2})\d+", r"\1", element.attrib[key]))
    for declaration in element.attrib.pop("style", "").split(";"):
        key, _, value = (part.strip() for part in declaration.partition(":"))
        if key == "font":  # "700 11px 'DejaVu Sans'": the page's own face, our size and weight
            size = re.search(r"([\d.]+)px", value)
            if size:
                element.set("font-size", size[1])
            if re.match(r"(bold|[6-9]00)\b", value):
                element.set("font-weight", "600")
        elif key and key != "font-family":
            element.set(key, value)
    reference = element.attrib.pop(f"{{{XLINK}}}href", None)
    if reference:
        element.set("href", reference.replace("#", f"#{name}-", 1))
    clip = element.get("clip-path")
    if clip:
        element.set("clip-path", clip.replace("#", f"#{name}-", 1))
    identity = element.get("id")
    if identity and identity.startswith(LABEL):
        del element.attrib["id"]
        text = identity.removeprefix(LABEL)
        element.set("class", "mark")
        element.set("tabindex", "0")
        element.set("role", "img")
        element.set("aria-label", text)
        title = ET.Element(f"{{{SVG}}}title")
        title.text = text
        element.insert(0, title)
    elif identity:
        element.set("id", f"{name}-{identity}")


def standalone(picture: Picture) -> str:
    """The same picture as a file of its own, for Markdown: it brings its colours along, both themes."""
    css = theme.picture_css(picture.svg)
    return _file(picture.svg, f"<style>{css}text {{ font-family: system-ui, sans-serif; }}</style>")


def literal(picture: Picture) -> str:
    """The same picture with plain colours and a plain font, for programs that know no CSS variables."""
    text = _file(picture.svg, "", 'font-family="DejaVu Sans, Helvetica, Arial, sans-serif"')
    for name, value in theme.light().items():
        text = text.replace(f"var(--{name})", value)
    return text


def _file(svg: str, style: str, attributes: str = "") -> str:
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0]
    head, rest = svg.split(">", 1)
    ground = '<rect width="100%" height="100%" fill="var(--surface)" />'
    return f'{head} width="{width}" height="{height}" {attributes}>{style}{ground}{rest}\n'


def png(picture: Picture, dpi: int = 200) -> bytes:
    """The picture in the light theme as PNG. The figure keeps the theme's colours afterwards."""
    names = {stand_in: re.sub(r"var\(--(.*)\)", r"\1", v) for stand_in, v in VARIABLES.items()}
    plain = {stand_in: theme.light()[name] for stand_in, name in names.items()}
    for artist in picture.figure.findobj():
        _recolour(artist, plain)
        box = getattr(artist, "get_bbox_patch", lambda: None)()
        if box is not None:
            _recolour(box, plain)
    buffer = BytesIO()
    with mpl.rc_context(STYLE):
        picture.figure.savefig(
            buffer, format="png", dpi=dpi, facecolor=theme.light()["surface"], metadata={}
        )
    return buffer.getvalue()


PAINTED = ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor")


def _recolour(artist: Artist, plain: Mapping[str, Any]) -> None:
    """Put a theme's colours in the place of the stand-ins; transparency stays."""
    for part in PAINTED:
        read, write = getattr(artist, f"get_{part}", None), getattr(artist, f"set_{part}", None)
        if read is None or write is None:
            continue
        value = read()
        many = isinstance(value, np.ndarray) and value.ndim == 2
        found: list[Any] = list(value) if many else [value]
        if not all(isinstance(c, str | tuple | np.ndarray) and len(c) for c in found):
            continue
        if not any(to_hex(colour) in plain for colour in found):
            continue
        fixed = [to_rgba(plain.get(to_hex(c), c), to_rgba(c)[3]) for c in found]
        write(fixed if many else fixed[0])
