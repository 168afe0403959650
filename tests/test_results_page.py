"""docs/results.md and the README say what the stored results of the pocket study say."""

import re
from dataclasses import replace
from pathlib import Path

from docs import generate_results as generator

DOCS = Path(__file__).parent.parent / "docs"


def test_the_pages_are_what_would_be_written_now():
    results = generator.stored()
    blocks = set()
    for path in generator.PAGES:
        text = path.read_text("utf-8")
        assert text == generator.page(text, results), "say: python -m docs.generate_results"
        blocks |= {found[2] for found in generator.BLOCK.finditer(text)}
    assert blocks == set(generator.BLOCKS)


def test_another_result_is_another_page():
    """Each block reads the results: without them it is another text."""
    results = generator.stored()
    less = replace(
        results,
        arms=results.arms[:1],
        verdicts=results.verdicts[:1],
        probes=results.probes[:1],
        environment=results.environment | {"share_of_probes": 0.5},
    )
    for name, write in generator.BLOCKS.items():
        assert write(results) != write(less), name


def test_every_figure_of_the_pages_is_there():
    for path in (DOCS / "results.md", DOCS.parent / "README.md"):
        for target in re.findall(r"!\[.*?\]\((.+?)\)", path.read_text("utf-8")):
            assert (path.parent / target).is_file(), target


def test_the_probes_took_no_more_than_they_were_given():
    assert generator.stored().environment["share_of_probes"] <= 0.35
