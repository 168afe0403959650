"""What users give: files, values and arguments are refused in one line, before anything is done."""

from tests.mutants.mutant import Mutant

FILES = "test_files.py"
STRICT = (f"{FILES}::test_json_that_any_reader_would_read_otherwise_is_refused",)
HOSTILE = "test_config.py::test_a_file_that_no_one_means_is_one_line_at_once[{}]"
STUDIES = "study/test_hostile_studies.py"
ABSURD = f"{STUDIES}::test_absurd_values_are_refused_with_their_path[{{}}]"
ROWS = "core/test_data.py"
ARGUMENTS = "cli/test_arguments.py"
NO_TORCH = f"{ARGUMENTS}::test_what_is_wrong_with_a_study_is_said_before_torch_is_imported"

MUTANTS = (
    Mutant(
        "input",
        "of a JSON key given twice the last one counts",
        "files.py",
        "if len(found) < len(pairs):",
        "if False:",
        STRICT,
    ),
    Mutant(
        "input",
        "JSON may hold integers that no machine word holds",
        "files.py",
        "if len(digits) > 20 or not SMALLEST <= int(digits) <= LARGEST:",
        "if len(digits) > 4300:",
        STRICT,
    ),
    Mutant(
        "input",
        "JSON may hold half a character",
        "files.py",
        "if _HALF_ESCAPED.search(text) or not text.isascii():",
        "if not text.isascii():",
        STRICT,
    ),
    Mutant(
        "input",
        "JSON may be nested until Python's stack ends",
        "files.py",
        "if depth > MOST_DEPTH:",
        "if depth > MOST_DEPTH * 10**6:",
        STRICT,
    ),
    Mutant(
        "input",
        "a pipe that nobody writes to is waited for, a device read",
        "files.py",
        "if not stat.S_ISREG(about.st_mode):",
        "if stat.S_ISDIR(about.st_mode):",
        (f"{FILES}::test_what_cannot_be_opened_says_why_and_what_to_do",),
    ),
    Mutant(
        "input",
        "a byte-order mark is a part of the text",
        "files.py",
        'return text.removeprefix("\\ufeff")',
        "return text",
        (f"{FILES}::test_text_comes_without_its_mark_and_with_its_line_ends",),
    ),
    Mutant(
        "input",
        "aliases may stand for any number of values",
        "yaml12.py",
        "if max(values, self.composed) > MOST_VALUES:",
        "if self.composed > MOST_VALUES:",
        (HOSTILE.format("text2-more than 20000 values"),),
    ),
    Mutant(
        "input",
        "a list may hold itself",
        "yaml12.py",
        "if anchored is not None and anchored.end_mark is None:",
        "if False:",
        (HOSTILE.format("a: &a {b: [*a]}\\n-the value of the anchor 'a' holds itself"),),
    ),
    Mutant(
        "input",
        "a chain of aliases is as deep as it likes",
        "yaml12.py",
        "if levels > MOST_DEPTH:",
        "if levels > 10**6:",
        (HOSTILE.format("text11-nested more than 64 levels deep"),),
    ),
    Mutant(
        "input",
        "a tag makes a value of another kind",
        "yaml12.py",
        'elif getattr(event, "tag", None) is not None:',
        "elif False:",
        (HOSTILE.format("a: !!int x\\n-tags are not read"),),
    ),
    Mutant(
        "input",
        "ranges of numbers are written down and not held",
        "config/schema.py",
        "bounds = note.within.bounds if note.within else {}",
        "bounds = {}",
        (
            ABSURD.format(
                "arms.grpo.budget.adam_beta1=1.0-arms.grpo.budget.adam_beta1: must be at least 0 and"
            ),
        ),
    ),
    Mutant(
        "input",
        "an open end of a range counts",
        "limits.py",
        'low = "gt" if self.open_low else "ge"',
        'low = "ge"',
        (f"{STUDIES}::test_ranges_hold_through_unions_lists_and_overrides",),
    ),
    Mutant(
        "input",
        "trials of a search are tried when its turn comes, after hours",
        "study/spec.py",
        "for name, trials in self.search.trials.items() if self.search else ():",
        "for name, trials in ():",
        (
            ABSURD.format(
                "search.trials.grpo.2={budget.lerning_rate: 1}"
                "-search.trials.grpo[2]: budget.lerning_rate: unknown key; did you mean"
            ),
        ),
    ),
    Mutant(
        "input",
        "an error repeats the lines that a user wrote",
        "errors.py",
        "return one_line(super().__str__(), MOST_CHARACTERS)",
        "return super().__str__()",
        ("study/test_hostile_studies.py::test_a_key_that_nobody_knows_is_named_in_one_line",),
    ),
    Mutant(
        "input",
        "a blank line is a row that is no JSON",
        "files.py",
        "if not line.strip():",
        "if not line:",
        (f"{ROWS}::test_blank_lines_numbers_a_mark_and_windows_line_ends_are_fine",),
    ),
    Mutant(
        "input",
        "a number in a row is no text",
        "templates.py",
        "value = json.dumps(value)",
        "value = None",
        (f"{ROWS}::test_blank_lines_numbers_a_mark_and_windows_line_ends_are_fine",),
    ),
    Mutant(
        "input",
        "a template asks for as many spaces as it likes",
        "templates.py",
        "if any(layout or conversion for _, _, layout, conversion in parts):",
        "if False:",
        (f"{ROWS}::test_a_template_that_is_none_is_refused_when_it_is_made",),
    ),
    Mutant(
        "input",
        "a label may be anything that equals 0 or 1, or cannot be compared",
        "evaluate/local.py",
        "if not all(type(label) is int and label in (0, 1) for label in labels) or 1 not in labels:",
        "if not set(labels) <= {0, 1} or 1 not in labels:",
        ("evaluate/test_local.py::test_bad_truthfulqa_rows_are_named",),
    ),
    Mutant(
        "input",
        "a benchmark's empty cell is a choice",
        "evaluate/local.py",
        "if not isinstance(text, str) or not text.strip():",
        "if not isinstance(text, str):",
        ("evaluate/test_local.py::test_bad_mmlu_rows_are_named",),
    ),
    Mutant(
        "input",
        "an option is an abbreviation of another",
        "cli/arguments.py",
        'super().__init__(**(options | {"allow_abbrev": False}))',
        "super().__init__(**options)",
        (f"{ARGUMENTS}::test_bad_arguments_end_with_one_line",),
    ),
    Mutant(
        "input",
        "an empty argument is the working directory",
        "cli/arguments.py",
        'if not text.strip():\n        raise argparse.ArgumentTypeError(f"must be a path',
        'if False:\n        raise argparse.ArgumentTypeError(f"must be a path',
        (f"{ARGUMENTS}::test_an_argument_that_nobody_means_is_refused_as_it_is_read",),
    ),
    Mutant(
        "input",
        "an argument need not be UTF-8",
        "cli/main.py",
        "check_arguments(sys.argv[1:] if arguments is None else arguments)",
        "pass",
        (f"{ARGUMENTS}::test_an_argument_that_nobody_means_is_refused_as_it_is_read",),
    ),
    Mutant(
        "input",
        "a study file is read behind the imports of what trains",
        "cli/main.py",
        "    from statewise.reading import plain_study\n",
        "    import torch; from statewise.reading import plain_study\n",
        (NO_TORCH,),
    ),
    Mutant(
        "input",
        "the kinds of a study import torch as they are read",
        "signals.py",
        "from statewise.lazy import torch\n",
        "import torch\n",
        (NO_TORCH,),
    ),
    Mutant(
        "input",
        "a pair is judged by every annotation of its functions, tensors included",
        "arms/pairing.py",
        "alone = SimpleNamespace(__annotations__={name: function.__annotations__[name]})",
        "alone = function",
        (NO_TORCH,),
    ),
)
