"""Seeds are functions of names and numbers, the same on every machine and in every version."""

from __future__ import annotations

from statewise.seeding import permutation, seed_for, uniforms


def test_parts_do_not_run_together():
    assert seed_for("step", 1, 12) != seed_for("step", 11, 2)
    assert seed_for("ab", "c") != seed_for("a", "bc")
    assert seed_for(1, 2) != seed_for(2, 1)


def test_the_draws_of_this_version_are_pinned():
    """A run that is resumed under a later version draws what it would have drawn."""
    assert seed_for("train", 0, 1) == 1961638460501518565
    assert permutation(5, "epoch", 0).tolist() == [1, 3, 0, 4, 2]
    assert uniforms(2, 7).tolist() == [0.7917306640036272, 0.659571247840049]
