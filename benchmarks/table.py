"""The tables of docs/performance.md, made from the JSON files in benchmarks/results.

A block of the page stands between `<!-- results: NAME -->` and `<!-- end of results -->`; what stands there is
replaced. `summary` and `environment` draw on all CPU results, any other name on the file of that name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.harness import OURS, words
from docs import markdown

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "performance.md"
PARTS = ("rollout", "sft", "opd", "grpo", "evaluation", "kl", "big")
BLOCK = re.compile(r"(<!-- results: ([\w-]+) -->\n).*?(<!-- end of results -->)", re.DOTALL)

Results = Mapping[str, Mapping[str, Any]]


def read_results(folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Results by the name of their file. Raises ValueError for those of a quick run, which measures nothing."""
    found = {p.stem: json.loads(p.read_text("utf-8")) for p in sorted(folder.glob("*.json"))}
    if quick := [name for name, result in found.items() if result["quick"]]:
        raise ValueError(f"results of a quick run are no measurements: {', '.join(quick)}")
    return found


def page(text: str, results: Results) -> str:
    """The page with every block filled in."""
    return BLOCK.sub(lambda m: f"{m[1]}{block(m[2], results)}\n{m[3]}", text)


def write() -> None:
    """Rewrite docs/performance.md, and its figures, from what is in benchmarks/results."""
    results = read_results()
    PAGE.write_text(page(PAGE.read_text("utf-8"), results), "utf-8")
    if "growth" in results:
        from benchmarks.plots import draw

        draw(results["growth"], PAGE.parent / "figures")


def block(name: str, results: Results) -> str:
    """One block."""
    if name == "summary":
        return summary(results)
    if name == "environment":
        return environments(results)
    if name not in results:
        part, _, device = name.partition("-")
        extra = f" --device {device}" if device else ""
        return f'*Not measured yet: `make bench ARGS="{part}{extra}"` writes it.*'
    result = results[name]
    if "curves" in result:
        return growth(result)
    if "minutes" in result:
        return study(result)
    return "\n\n".join(comparison(c) for c in result["comparisons"])


# ---- the tables -----------------------------------------------------------------------------------------


def summary(results: Results) -> str:
    """A line for each ratio that has a target."""
    rows = []
    for part in PARTS:
        for found in results.get(part, {}).get("comparisons", ()):
            by_name = {entry["name"]: entry for entry in found["contenders"]}
            for peer, ratio in found["ratios"].items():
                if ratio["floor"] is None:
                    continue
                rows.append(
                    [
                        found["name"],
                        value(by_name[OURS]["median"], found["unit"]),
                        f"{peer}: {value(by_name[peer]['median'], found['unit'])}",
                        f"**{ratio['ratio']:.2f}×** [{ratio['least']:.2f}, {ratio['most']:.2f}]",
                        f"{ratio['aim']:g}× / {ratio['floor']:g}×",
                        verdict(ratio["ratio"], ratio["aim"], ratio["floor"]),
                    ]
                )
            rows += _memory(found, by_name)
    if "study" in results:
        found = results["study"]
        # Fewer minutes are better: the verdict is that of the quotients.
        rows.append(
            [
                "pocket study, whole",
                f"{found['minutes']:.1f} min",
                "–",
                "–",
                f"{found['aim_minutes']:g} / {found['floor_minutes']:g} min",
                verdict(-found["minutes"], -found["aim_minutes"], -found["floor_minutes"]),
            ]
        )
    if not rows:
        return "*Not measured yet: `make bench` writes it.*"
    return table(
        ["work", "statewise", "peer at its best setting", "ratio", "aim / floor", ""], rows
    )


def _memory(found: Mapping[str, Any], by_name: Mapping[str, Any]) -> list[list[str]]:
    """Lines for what the issue says of memory."""
    ours, limits = by_name[OURS]["details"], found["describes"]
    others = {name: entry["details"] for name, entry in by_name.items() if name != OURS}
    if "memory_floor_mib" in limits:
        limit, key, unit, title = (
            limits["memory_floor_mib"],
            "above_mib",
            "MiB",
            "above weights and gradients",
        )
    elif "memory_floor_gib" in limits:
        limit, key, unit, title = (
            limits["memory_floor_gib"],
            "peak_gib",
            "GiB",
            "of the whole process",
        )
        # No more than the peer's, besides.
        limit = min([limit, *(details[key] for details in others.values())])
    else:
        return []
    told = "; ".join(f"{name}: {details[key]:,.4g} {unit}" for name, details in others.items())
    return [
        [
            f"{found['name']}: memory {title}",
            f"{ours[key]:,.4g} {unit}",
            told or "–",
            "–",
            f"at most {limit:,.4g} {unit}",
            "met" if ours[key] <= limit else "**missed**",
        ]
    ]


def comparison(found: Mapping[str, Any]) -> str:
    """Everyone's figures and settings for one piece of work."""
    details = [entry["details"] for entry in found["contenders"]]
    key, unit = next(
        ((k, u) for k, u in (("above_mib", "MiB"), ("peak_gib", "GiB")) if k in details[0]),
        ("", ""),
    )
    head = [
        "",
        f"{found['unit']}: median [min, max]",
        "ratio",
        "of matmul peak",
        "of bandwidth",
        "setting",
    ]
    if key:
        head.insert(3, f"memory, {unit}")
    rows = []
    for entry in found["contenders"]:
        ratio = found["ratios"].get(entry["name"])
        row = [
            entry["name"],
            f"{number(entry['median'])} [{number(entry['min'])}, {number(entry['max'])}]",
            f"{ratio['ratio']:.2f}×" if ratio else "–",
            share(entry.get("share_of_matmul")),
            share(entry.get("share_of_bandwidth")),
            words(entry["setting"]) + _tried(entry["searched"]),
        ]
        if key:
            row.insert(3, f"{entry['details'][key]:,.4g}")
        rows.append(row)
    said = [f"**{found['name']}**: {words(_rounded(found['describes']))}."]
    said += [f"{name} was left out: {why}." for name, why in found["missing"].items()]
    return " ".join(said) + "\n\n" + table(head, rows)


def growth(result: Mapping[str, Any]) -> str:
    """The four plots, slopes, and the points they come from."""
    shown, rows = [], []
    for curve in result["curves"]:
        for line in curve["lines"]:
            points = ", ".join(f"{p['x']:,}: {number(p['median'])}" for p in line["points"])
            rows.append([curve["against"], line["what"], f"{line['slope']:+.2f}", points])
        against = curve["against"]
        shown.append(f"![tokens/s against {against}](figures/growth-{against}.svg)")
    listed = table(["against", "", "log-log slope", "tokens/s (median)"], rows)
    return "\n".join(shown) + f"\n\n{listed}"


def study(result: Mapping[str, Any]) -> str:
    """One run's minutes, and what all processes together did in them."""
    minutes, share, work = result["minutes"], result["share_of_probes"], result["seconds_of_work"]
    said = (
        f"{minutes:.1f} minutes (aim {result['aim_minutes']:g}, floor {result['floor_minutes']:g})."
    )
    if not work:
        return said
    kinds = ", ".join(f"{kind.replace('_', ' ')} {number(s)} s" for kind, s in work.items())
    return (
        f"{said} Probes took {100 * share:.0f} % of the work, about {minutes * share:.1f} minutes; training and "
        f"measuring the other {minutes * (1 - share):.1f}. Seconds of work, all processes: {kinds} "
        "(the last is part of train)."
    )


def environments(results: Results) -> str:
    """Where and when each part was measured, and the peaks of that run."""
    rows = []
    for name, result in results.items():
        place, peaks = result["environment"], result["peaks"]
        packages = place["packages"]
        rows.append(
            [
                name,
                f"{place['date']}, {place['commit']}{' with changes' if place['changed'] else ''}",
                f"{place['processor']}, {place['threads']} threads"
                if place["device"] == "cpu"
                else place["device"],
                f"torch {packages['torch']}, transformers {packages['transformers']}",
                f"{peaks['matmul_fp32'] / 1e9:,.0f} / {peaks['matmul_bf16'] / 1e9:,.0f}",
                f"{peaks['copy'] / 1e9:,.1f}",
            ]
        )
    if not rows:
        return "*Not measured yet.*"
    head = ["part", "date, commit", "machine", "versions", "fp32 / bf16 GFLOP/s", "copy GB/s"]
    return table(head, rows)


# ---- words ----------------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown, without the last line's end."""
    return markdown.table(head, rows).rstrip("\n")


def verdict(ratio: float, aim: float, floor: float) -> str:
    """In a word or two.

    >>> [verdict(ratio, aim=3.0, floor=2.5) for ratio in (3.0, 2.7, 2.4)]
    ['aim met', 'floor met', '**below the floor**']
    """
    return "aim met" if ratio >= aim else "floor met" if ratio >= floor else "**below the floor**"


def value(number_of: float, unit: str) -> str:
    """With its unit."""
    return f"{number(number_of)} {unit}"


def number(found: float) -> str:
    """Three or four digits.

    >>> [number(x) for x in (12345.6, 123.45, 0.012345)]
    ['12,346', '123.5', '0.01235']
    """
    return f"{found:,.0f}" if found >= 1000 else f"{found:.4g}"


def share(found: float | None) -> str:
    """Per cent, or a dash."""
    return "–" if found is None else f"{100 * found:.3g} %"


def _tried(searched: Sequence[Mapping[str, Any]]) -> str:
    refused = sum("refused" in trial for trial in searched)
    return f" (of {len(searched)}{f', {refused} refused' if refused else ''})" if searched else ""


def _rounded(described: Mapping[str, Any]) -> dict[str, Any]:
    return {
        k: float(f"{v:.3g}") if isinstance(v, float) else v
        for k, v in described.items()
        if not k.startswith("memory_floor")
    }
