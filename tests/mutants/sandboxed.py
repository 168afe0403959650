"""Templates and names of strangers."""

from tests.mutants.mutant import Mutant

SANDBOX = "test_sandbox.py"
SOON = f"{SANDBOX}::test_what_would_fill_the_memory_or_never_end_is_refused_soon"
TASKS = "evaluate/test_tasks.py"

MUTANTS = (
    Mutant(
        "untrusted text",
        "the harness renders the study's prompts",
        "evaluate/tasks.py",
        'config["doc_to_text"] = Question(',
        'config["doc_to_text"] = task.prompt; Question(',
        (
            f"{TASKS}::test_a_prompt_of_the_study_is_rendered_here_and_as_the_harness_would",
            f"{TASKS}::test_a_prompt_can_run_nothing_and_end_nowhere_but_in_one_line",
        ),
    ),
    Mutant(
        "untrusted text",
        "a task's name may be a path",
        "evaluate/tasks.py",
        'check_name(self.name, "task name", LABEL)',
        'check_name("x", "task name", LABEL)',
        (f"{TASKS}::test_a_tasks_name_is_a_name_and_no_path",),
    ),
    Mutant(
        "untrusted text",
        "what is undefined gives away its attributes",
        "sandbox/environment.py",
        "            _complain(obj)\n",
        "            return getattr(obj, attribute)\n",
        (f"{SANDBOX}::test_nothing_beyond_the_row_is_reached",),
    ),
    Mutant(
        "untrusted text",
        "a namespace takes private names",
        "sandbox/environment.py",
        'if not isinstance(name, str) or name.startswith("_"):',
        "if not isinstance(name, str):",
        (f"{SANDBOX}::test_no_statement_reads_another_template_or_pythons_own",),
    ),
    Mutant(
        "untrusted text",
        "a template may read another",
        "sandbox/environment.py",
        "for node in source.find_all(REFUSED_NODES):",
        "for node in []:",
        (f"{SANDBOX}::test_no_statement_reads_another_template_or_pythons_own",),
    ),
    Mutant(
        "untrusted text",
        "the turns of a loop cost nothing",
        "sandbox/environment.py",
        "    node.body = [payment, *node.body]",
        "    node.body = [*node.body]",
        (f"{SANDBOX}::test_a_template_gets_as_many_steps_as_are_said_and_no_more",),
    ),
    Mutant(
        "untrusted text",
        "a format may be as wide as it likes",
        "sandbox/meter.py",
        "abs(width) > MAX_WIDTH",
        "abs(width) > 10**12",
        (f"{SOON}[{{{{ 'a'.ljust(10**10) }}}}]",),
    ),
    Mutant(
        "untrusted text",
        "names that differ in case alone are two",
        "names.py",
        'return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())',
        "return name",
        ("test_names.py::test_names_that_may_pass_for_each_other_are_refused_together",),
    ),
    Mutant(
        "untrusted text",
        "any mark may stand in a name",
        "names.py",
        "if not (_is_letter(character) or character in inside):",
        "if False:",
        ("test_names.py::test_what_is_no_name_is_refused_in_one_line",),
    ),
    Mutant(
        "untrusted text",
        "a place in a template has a width",
        "templates.py",
        "if any(layout or conversion for",
        "if any(conversion for",
        (
            "core/test_data.py::test_a_place_in_a_template_takes_a_keys_text_as_it_is_and_nothing_else",
        ),
    ),
    Mutant(
        "untrusted text",
        "a study's name may leave its folder",
        "study/spec.py",
        'check_name(self.name, "study name", FOLDER)',
        "self.name",
        ("study/test_spec.py::test_what_is_wrong_in_a_study_is_named",),
    ),
    Mutant(
        "untrusted text",
        "the code of a stranger's run folder runs",
        "user_code.py",
        "if function in _DISTRUSTED:",
        "if False:",
        ("core/test_python_kinds.py::test_what_a_strangers_run_folder_names_is_not_run",),
    ),
    Mutant(
        "user code",
        "a user's code ends the process",
        "user_code.py",
        "except BaseException as error:",
        "except Exception as error:",
        (
            "core/test_python_kinds.py::test_code_that_cannot_be_imported_is_one_line_with_its_file_and_line",
        ),
    ),
    Mutant(
        "user code",
        "a truth value passes for a reward",
        "user_code.py",
        "number = isinstance(value, int | float) and not isinstance(value, bool)",
        "number = isinstance(value, int | float)",
        ("core/test_python_kinds.py::test_what_a_reward_gives_that_is_no_number_is_one_line",),
    ),
    Mutant(
        "artefacts",
        "a terminal of ASCII ends a command",
        "streams.py",
        'change(errors="backslashreplace")',
        'change(errors="strict")',
        ("test_streams.py::test_a_terminal_of_ascii_gets_escapes",),
    ),
    Mutant(
        "artefacts",
        "a pipe that closes ends a command in a traceback",
        "streams.py",
        "except BrokenPipeError:",
        "except ZeroDivisionError:",
        ("test_streams.py::test_whoever_reads_one_line_and_goes_ends_it_quietly",),
    ),
)
