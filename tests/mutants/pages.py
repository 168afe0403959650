"""What users see: the page, and the server that shows runs while they run."""

from tests.mutants.mutant import Mutant

SERVE = "report/test_serve.py"
TRAINING = "report/test_training.py"

MUTANTS = (
    Mutant(
        "server",
        "a client that drips begins its deadline anew with each byte",
        "report/listening.py",
        "left = self._ends - time.monotonic()",
        "left = 2.0",
        (f"{SERVE}::test_a_client_that_drips_alone_is_let_go",),
    ),
    Mutant(
        "server",
        "connections that wait for their client keep the others out",
        "report/listening.py",
        "                if waiting:",
        "                if not waiting:",
        (f"{SERVE}::test_clients_that_drip_hold_up_nobody_and_go",),
    ),
    Mutant(
        "server",
        "what the standard library refuses has no headers of ours",
        "report/listening.py",
        "def send_error(",
        "def send_error_unused(",
        (f"{SERVE}::test_every_answer_has_the_headers_of_the_page",),
    ),
    Mutant(
        "server",
        "another's absolute address is answered",
        "report/listening.py",
        "([asked.netloc] if asked.netloc else ())",
        "()",
        (f"{SERVE}::test_a_bad_request_is_refused_and_leaves_no_traceback",),
    ),
    Mutant(
        "server",
        "one run that cannot be read ends the status of all",
        "report/serve.py",
        'return {"error": _fault(error)}',
        "raise",
        (f"{SERVE}::test_a_broken_run_is_shown_beside_the_others",),
    ),
    Mutant(
        "server",
        "a finished run is called live while its files are new",
        "report/live.py",
        'if all(seed["state"] == "done"',
        'if idle_seconds >= LIVE_SECONDS and all(seed["state"] == "done"',
        (f"{SERVE}::test_a_run_is_finished_live_or_stalled",),
    ),
    Mutant(
        "server",
        "a lock that a process holds is not seen",
        "report/live.py",
        'rf":{inode}\\b"',
        'rf":{inode}0\\b"',
        (f"{SERVE}::test_a_run_is_finished_live_or_stalled",),
    ),
    Mutant(
        "page",
        "rewards of several streams have no curve",
        "report/material.py",
        'if (figure := key.rsplit(".", 1)[-1]) in paid:',
        "if (figure := key) in paid:",
        (f"{TRAINING}::test_each_reward_has_a_curve_under_its_name",),
    ),
    Mutant(
        "page",
        "the loss of a surrogate is shown as if it measured progress",
        "report/training.py",
        "remarks=dict.fromkeys(surrogates, NO_PROGRESS)",
        "remarks={}",
        (f"{TRAINING}::test_a_surrogate_says_beside_its_curve_that_it_measures_nothing",),
    ),
    Mutant(
        "page",
        "all notes stand before the verdicts",
        "report/markdown.py",
        "{plain(results.notes[0])}",
        "{plain(' '.join(results.notes))}",
        (f"{TRAINING}::test_notes_are_one_line_before_what_came_out",),
    ),
    Mutant(
        "page",
        "a figure has no legend",
        "report/legends.py",
        '_legend(figure, keys, width, "outside upper left")',
        "pass",
        (f"{TRAINING}::test_legends_are_drawn",),
    ),
    Mutant(
        "page",
        "a table wider than the terminal is cut inside names",
        "study/table.py",
        "column])) >= width and",
        "column])) >= 9 * width and",
        (
            "study/test_results.py::test_no_name_or_number_is_broken_inside_however_narrow_the_terminal",
        ),
    ),
)
