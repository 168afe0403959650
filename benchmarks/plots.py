"""The four plots of growth, as SVG files that are the same bytes for the same results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

AXES = {
    "batch": "rows at once",
    "length": "tokens of a row",
    "vocabulary": "tokens of the vocabulary",
    "parameters": "weights of the model",
}


def draw(result: Mapping[str, Any], folder: Path) -> list[Path]:
    """One file a curve: medians, extremes, and the slope of each line in its label."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    paths = []
    with mpl.rc_context({"svg.hashsalt": "statewise", "svg.fonttype": "none", "font.size": 10}):
        for curve in result["curves"]:
            figure, axes = plt.subplots(figsize=(4.6, 3.4), layout="constrained")
            for line, marker in zip(curve["lines"], "os", strict=True):
                x = [point["x"] for point in line["points"]]
                y = [point["median"] for point in line["points"]]
                axes.plot(x, y, marker=marker, label=f"{line['what']}, slope {line['slope']:+.2f}")
                axes.fill_between(
                    x,
                    [point["min"] for point in line["points"]],
                    [point["max"] for point in line["points"]],
                    alpha=0.2,
                )
            axes.set(xscale="log", yscale="log", xlabel=AXES[curve["against"]], ylabel="tokens/s")
            axes.grid(visible=True, which="major", alpha=0.3)
            axes.legend(frameon=False)
            path = folder / f"growth-{curve['against']}.svg"
            figure.savefig(path, metadata={"Date": None})
            plt.close(figure)
            paths.append(path)
    return paths
