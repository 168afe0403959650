"""What a name is, kind by kind of what is none."""

from __future__ import annotations

import pytest

from statewise.errors import ConfigError
from statewise.names import FOLDER, LABEL, check_distinct, check_name

BAD = [
    "",
    ".",
    "..",
    "../../x",
    "/tmp/x",
    "a/b",
    "a\\b",
    "C:x",
    ".hidden",
    "-flag",
    "a\0b",
    "a\nb",
    "a\rb",
    "a\x1b[31m",
    "a\u202eb",
    "a\u200bb",
    "a\u2028b",
    "a\ud800",
    " a",
    "a ",
    "a.",
    "n" * 300,
    "名" * 50,
    "a%2e",
    "~",
    "a*",
    "a:b",
    None,
    5,
]


@pytest.mark.parametrize("name", BAD, ids=lambda name: repr(name)[:20])
@pytest.mark.parametrize("inside", ["-_", FOLDER, LABEL])
def test_what_is_no_name_is_refused_in_one_line(name, inside):
    with pytest.raises(ConfigError) as caught:
        check_name(name, "arm name", inside)
    assert str(caught.value).startswith("arm name")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["a", "0", "opd-from_mild", "größe", "हिन्दी", "名前", "n" * 100])
def test_words_of_any_script_are_names(name):
    check_name(name, "arm name")


@pytest.mark.parametrize(
    "name", ["mmlu_professional_law", "egymmlu_arabic_(general)", "GSM8K 5-shot"]
)
def test_labels_may_have_brackets_and_spaces(name):
    check_name(name, "label", LABEL)
    if not name.replace("_", "").isalnum():
        with pytest.raises(ConfigError, match="cannot stand in it"):
            check_name(name, "arm name")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("grpo", "grpo"),
        ("grpo", "GRPO"),
        ("é", "e\u0301"),
        ("ﬁ", "fi"),
        ("²", "2"),
        ("ß", "SS"),
        ("K", "k"),
    ],
)
def test_names_that_may_pass_for_each_other_are_refused_together(first, second):
    with pytest.raises(ConfigError, match="rename one"):
        check_distinct(["other", first, second], "arm names")
    check_distinct([first, "x" + second], "arm names")


@pytest.mark.parametrize("name", ["a b", "-x", "a:b", "seed*", ".hid", "CON ", "x" * 150, "a.b"])
def test_a_run_folder_takes_no_name_that_a_study_refuses(name):
    from statewise.store import is_name

    assert not is_name(name)


def test_a_stored_study_has_no_more_seeds_than_one_may_ask(tmp_path):
    from statewise.errors import RunError
    from statewise.results.stored_study import stored_study

    text = "name: s\ntasks: [{name: t, role: target}]\narms: [{name: a}]\nseeds: "
    (tmp_path / "study.yaml").write_text(text + "1000\n")
    assert stored_study(tmp_path)["seeds"] == 1000
    (tmp_path / "study.yaml").write_text(text + "1001\n")
    with pytest.raises(RunError, match="1001 seeds"):
        stored_study(tmp_path)
