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
        environment=results.environment
        | {
            "share_of_probes": 0.5,
            "own_states": {"a": 0.5},
            "answers_without_working": {"base": [0.0, 0.0, 0.5], "a": [0.0, 0.0, 0.9]},
        },
    )
    for name, write in generator.BLOCKS.items():
        assert write(results) != write(less), name


def test_the_switch_of_format_is_said_where_it_is_most_of_the_gain():
    results = generator.stored()
    assert "Most of the gain" in generator.format_switch(results)
    skill = {
        "base": [0.1, 0.0, 0.4],
        "a": [0.0, 0.0, 0.9],
    }  # gain 0.54, of which 0.1 * 0.9 by format
    env = {**results.environment, "answers_without_working": skill}
    assert "Most of the gain" not in generator.format_switch(replace(results, environment=env))


def test_a_sign_that_turns_with_the_decoding_stands_beside_the_verdict():
    results = generator.stored()
    (turned,) = [v for v in results.verdicts if v.name == "student_exceeds_teacher"]
    assert "decoded greedily" in turned.sentence
    scores = {
        (arm.name, d): arm.score("pocket_gsm", d).quantity.estimate.value
        for arm in results.arms
        for d in ("greedy", "sampled")
    }
    ahead = [scores["opd_from_stress", d] > scores["stress_sft", d] for d in ("greedy", "sampled")]
    assert ahead == [True, False]
    assert "the opposite sign" in turned.sentence
    assert generator.claims(results).count(generator.TURNED) == 2


def test_every_figure_of_the_pages_is_there():
    for path in (DOCS / "results.md", DOCS.parent / "README.md"):
        for target in re.findall(r"!\[.*?\]\((.+?)\)", path.read_text("utf-8")):
            assert (path.parent / target).is_file(), target


def test_the_probes_took_no_more_than_they_were_given():
    assert generator.stored().environment["share_of_probes"] <= 0.35
