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
        "a format names parts of its values",
        "sandbox/values.py",
        "if not (field_name.isdigit() or field_name.isidentifier()):",
        "if not field_name:",
        (f"{SANDBOX}::test_nothing_beyond_the_row_is_reached",),
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
        "text times a number is made before it is refused",
        "sandbox/values.py",
        "fits(len(items) * max(count, 0))",
        "fits(len(items))",
        (f"{SOON}[{{{{ 'a' * 10**10 }}}}]",),
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
)
