"""The command line: `statewise run pocket`.

Bad input ends with one line on standard error and exit code 2; a fault of ours keeps its traceback.
Heavy imports stand inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from statewise import __version__
from statewise.cli.arguments import Parser, check_arguments, path, place, real, rising, whole, words
from statewise.errors import StatewiseError
from statewise.limits import MOST_SEEDS
from statewise.streams import with_streams

SEED, COUNT, TOKENS = whole(0, 2**63 - 1), whole(1, 1_000_000_000), whole(1, 1 << 20)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (0 done, 1 a check failed, 2 bad input)."""
    return with_streams(lambda: _main(arguments))


def _main(arguments: Sequence[str] | None) -> int:
    # Telemetry and progress bars of libraries: off unless the user asked for them.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Its retries would bury our one line; the error that ends them reaches the user as that line. The level
    # alone does not last: the library sets it anew from the environment as it is imported.
    os.environ.setdefault("HF_HUB_VERBOSITY", "critical")
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    try:
        check_arguments(sys.argv[1:] if arguments is None else arguments)
        options = _parser().parse_args(arguments)
        code: int | None = options.command(options)
    except StatewiseError as error:
        print(f"statewise: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("statewise: stopped; run the same command again to continue", file=sys.stderr)
        return 130
    return code or 0


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="statewise",
        description="Post-training as shaping the distribution of states a policy is trained on.",
    )
    parser.add_argument("--version", action="version", version=f"statewise {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run a study: train every arm, evaluate, report")
    _study_options(run)
    run.add_argument("--out", type=path, help="run folder (default: runs/<study name>)")
    run.add_argument(
        "--seeds",
        type=whole(1, MOST_SEEDS),
        metavar="N",
        help="use seeds 0 ... N-1 instead of the study's",
    )
    run.add_argument("--dry-run", action="store_true", help="print the resolved study and stop")
    _worker_option(run)
    _progress_option(run)
    run.set_defaults(command=_run)

    train = commands.add_parser(
        "train", help="train one arm of a study (and the teachers it needs)"
    )
    _study_options(train)
    train.add_argument("--arm", required=True)
    train.add_argument("--seed", type=SEED, default=0)
    train.add_argument("--out", type=path, help="run folder (default: runs/<study name>)")
    _worker_option(train)
    _progress_option(train)
    train.set_defaults(command=_train)

    check = commands.add_parser(
        "check",
        help="look for faults of model, tokenizer, data and study before anything trains",
        description="Prints one training item of each arm, token by token, then one line a check: pass, warn or "
        "fail, the figure, and the fix. Nothing is written. Cost of an arm: its models loaded, a rollout of "
        "--items prompts a stream at the study's own lengths, and 5 to 10 gradients of as many rows.",
        epilog="Exit code: 0, 1 where a check fails, 2 where the study or a model cannot be read.",
    )
    _study_options(check)
    check.add_argument(
        "--arm",
        action="append",
        default=[],
        help="an arm to check; repeat it for more (default: all)",
    )
    check.add_argument(
        "--items",
        type=whole(1, 65_536),
        default=4,
        metavar="N",
        help="prompts a stream (default: 4)",
    )
    check.add_argument(
        "--run",
        type=path,
        metavar="DIR",
        help="run folder whose trained arms are the teachers (default: runs/<study name>, where it is; an "
        "arm that is not trained yet is stood in for by what it starts from)",
    )
    check.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="CHECK",
        help="a check to run, by the name that its line begins with; repeat it for more (default: all)",
    )
    check.add_argument(
        "--quick",
        action="store_true",
        help="only the checks of models, tokenizers and data: nothing is sampled, no gradient is taken",
    )
    check.add_argument("--json", action="store_true", help="print one JSON document instead")
    check.set_defaults(command=_check)

    plan = commands.add_parser(
        "plan",
        help="before a run: what each claim could see, items and seeds needed, time and memory",
    )
    _study_options(plan)
    plan.add_argument(
        "--seeds",
        type=whole(1, MOST_SEEDS),
        metavar="N",
        help="plan for seeds 0 ... N-1 instead of the study's",
    )
    plan.add_argument(
        "--run", type=path, metavar="DIR", help="learn variances and timing from this run folder"
    )
    plan.add_argument(
        "--discordance",
        type=real(0, 1, open_low=True),
        default=0.2,
        metavar="SHARE",
        help="share of items on which two arms disagree, where no run says (default: 0.2)",
    )
    plan.add_argument(
        "--seed-sd",
        type=real(0, 1),
        default=0.01,
        metavar="SD",
        help="deviation of an arm's true score over seeds, where no run says (default: 0.01)",
    )
    plan.add_argument(
        "--beyond",
        type=real(0, 1, open_low=True),
        default=0.03,
        metavar="EFFECT",
        help="a claim should be decided where the true effect lies so far beyond its margin (default: 0.03)",
    )
    plan.add_argument(
        "--steps",
        type=whole(0, 1_000_000),
        default=3,
        metavar="N",
        help="steps of each arm that are measured; 0 = no time and memory (default: 3)",
    )
    plan.add_argument("--json", action="store_true", help="print one JSON document instead")
    _worker_option(plan)
    plan.set_defaults(command=_plan)

    search = commands.add_parser(
        "search", help="choose hyperparameters as the study's `search` says"
    )
    _study_options(search)
    search.add_argument("--out", type=path, help="folder (default: runs/<study name>-search)")
    _worker_option(search)
    _progress_option(search)
    search.set_defaults(command=_search)

    evaluation = commands.add_parser("eval", help="evaluate a model on lm-evaluation-harness tasks")
    evaluation.add_argument(
        "model",
        type=place,
        help="Hugging Face directory, hub name, or 'world' for the embedded base",
    )
    evaluation.add_argument(
        "--task", type=words, action="append", required=True, metavar="NAME[:METRIC[:FILTER]]"
    )
    evaluation.add_argument(
        "--data", type=place, metavar="DIR", help="folder with local benchmark files"
    )
    evaluation.add_argument(
        "--limit", type=COUNT, metavar="N", help="first N items (of each subtask)"
    )
    evaluation.add_argument("--fewshot", type=whole(0, 10_000), metavar="N")
    evaluation.add_argument("--sampled", action="store_true", help="also sample at temperature 1")
    evaluation.add_argument("--seed", type=SEED, default=0)
    evaluation.add_argument(
        "--world-seed",
        type=SEED,
        default=0,
        metavar="N",
        help="which generated world the items of the embedded world's tasks are of (0)",
    )
    evaluation.add_argument(
        "--out",
        type=path,
        metavar="FILE",
        help="write item results as Parquet; if it is killed, the same command goes on behind the items that are done",
    )
    evaluation.set_defaults(command=_eval)

    states = commands.add_parser(
        "states", help="draw and store named samples of states, to probe every policy on the same"
    )
    _place_options(states, "+")
    states.add_argument(
        "--out", type=path, metavar="FILE", help="Parquet file (default: RUN/samples.parquet)"
    )
    states.add_argument(
        "--overwrite", action="store_true", help="draw anew what the file holds already"
    )
    states.add_argument(
        "--prompts",
        type=place,
        metavar="NAME",
        help="dev, demonstrations, prompts, gsm8k or a .jsonl file",
    )
    states.add_argument("--limit", type=COUNT, metavar="N", help="first N prompts")
    states.add_argument("--samples-per-prompt", type=whole(1, 65_536), default=1, metavar="N")
    states.add_argument("--max-new-tokens", type=TOKENS, metavar="N")
    states.add_argument("--temperature", type=real(0, 1000), default=1.0)
    states.add_argument(
        "--retention", action="append", metavar="TASK", help="(default: the run's retention tasks)"
    )
    states.add_argument("--retention-limit", type=COUNT, default=100, metavar="N")
    states.add_argument("--retention-tokens", type=TOKENS, default=32, metavar="N")
    states.add_argument(
        "--data", type=place, metavar="DIR", help="folder with local benchmark files"
    )
    states.add_argument("--sampling-seed", type=SEED, default=0)
    states.set_defaults(command=_states)

    probe = commands.add_parser("probe", help="ask policies about stored states")
    _place_options(probe, "*")  # `--probe list` needs none
    probe.add_argument(
        "--probe", required=True, metavar="NAME", help="which; `list` names them all"
    )
    probe.add_argument(
        "--states",
        action="append",
        metavar="FILE[:SAMPLE]",
        help="samples that `statewise states` stored (default: RUN/samples.parquet, all of them)",
    )
    probe.add_argument("--teacher", metavar="NAME", help="which of the policies teaches the others")
    probe.add_argument(
        "--trained",
        metavar="SAMPLE",
        help="locality: the states that the policies were trained on (default: of an arm, those that its "
        "first source visits; else dataset)",
    )
    probe.add_argument(
        "--clip", type=real(0, 1e9, open_low=True), default=1.0, help="signal_tail: clip in nats"
    )
    probe.add_argument(
        "--depths",
        type=rising,
        default=(8, 24, 48),
        metavar="N,N",
        help="splice, repair: cuts in tokens",
    )
    probe.add_argument("--max-new-tokens", type=TOKENS, default=120, metavar="N")
    probe.add_argument("--sampling-seed", type=SEED, default=0)
    probe.add_argument(
        "--out", type=path, metavar="FILE", help=".parquet or .json (default: beside the samples)"
    )
    probe.add_argument("--json", action="store_true", help="print JSON in place of the table")
    probe.set_defaults(command=_probe)

    report = commands.add_parser("report", help="write report.html and report.md of a run")
    report.add_argument("run", type=path)
    report.add_argument(
        "--figures",
        type=path,
        metavar="DIR",
        help="also every figure as SVG and PNG, and its table as CSV",
    )
    report.set_defaults(command=_report)

    serve = commands.add_parser(
        "serve", help="look at runs in a browser on this machine, also while they run"
    )
    serve.add_argument("runs", nargs="+", type=path, metavar="RUN")
    serve.add_argument(
        "--port",
        type=whole(0, 65_535),
        default=8720,
        help="on 127.0.0.1 (default: 8720; 0 = a free one)",
    )
    serve.set_defaults(command=_serve)

    commands.add_parser("env", help="versions and hardware").set_defaults(command=_env)

    world = commands.add_parser("world", help="the embedded world and its base model")
    parts = world.add_subparsers(required=True, metavar="COMMAND")
    pretrain = parts.add_parser("pretrain", help="train the embedded base from nothing (resumable)")
    pretrain.add_argument("directory", type=path)
    pretrain.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="assignments"
    )
    pretrain.set_defaults(command=_pretrain)
    figures = parts.add_parser("figures", help="dev-split figures of a base, as on its card")
    figures.add_argument("directory", type=path)
    figures.set_defaults(command=_figures)

    fresh = commands.add_parser("random-model", help="write a randomly initialised Qwen3 directory")
    fresh.add_argument("directory", type=path)
    fresh.add_argument("--shape", choices=["pocket", "qwen3-0.6b"], default="pocket")
    fresh.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="assignments"
    )
    fresh.add_argument(
        "--tokenizer", type=path, help="take the tokenizer of this directory (default: embedded)"
    )
    fresh.add_argument("--seed", type=SEED, default=0)
    fresh.set_defaults(command=_random_model)
    return parser


def _study_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "study",
        type=place,
        help="a study file, or the name of one that ships with statewise (pocket, controls, paper)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="assignments",
        help="change the study: a path of keys and a YAML value, such as arms.grpo.budget.steps=50; "
        "repeat it for more",
    )
    parser.add_argument(
        "--data",
        type=place,
        metavar="DIR",
        help="folder with local benchmark files (default: the hub)",
    )
    parser.add_argument(
        "--trust-code",
        action="store_true",
        help="run the Python code that the study file names (kind: python); read it first",
    )


def _place_options(parser: argparse.ArgumentParser, count: str) -> None:
    parser.add_argument(
        "places",
        type=place,
        nargs=count,
        metavar="RUN_OR_MODEL",
        help="a run folder, a model directory, a hub name or 'world'; models also as NAME=PLACE",
    )
    parser.add_argument(
        "--arm",
        action="append",
        default=[],
        help="of a run: this arm and what teaches it; repeat it for more (default: all)",
    )
    parser.add_argument(
        "--seed", type=SEED, help="of a run: this training seed (default: the first)"
    )
    parser.add_argument(
        "--base",
        type=place,
        metavar="MODEL",
        help="what policies are compared with (default: the run's base)",
    )
    parser.add_argument(
        "--trust-code",
        action="store_true",
        help="of a run: run the Python code that its study names (kind: python); read it first",
    )


def _worker_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers",
        type=whole(0, 1024),
        metavar="N",
        help="arms side by side (default: one per core for small models, else 1; 0 = in this process)",
    )


def _progress_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--progress",
        type=real(0, 86_400, open_low=True),
        default=30.0,
        metavar="SECONDS",
        help="without a terminal, how often each running job says where it is (default: 30)",
    )


def _read(options: argparse.Namespace):
    """The study that the options name. Reading and checking it imports no torch."""
    from statewise.reading import plain_study

    plain = plain_study(
        options.study,
        options.assignments,
        seeds=getattr(options, "seeds", None),
        data=options.data,
        trust_code=options.trust_code,
    )

    from statewise.arms.methods import with_streams
    from statewise.config import from_plain
    from statewise.study.spec import Study

    return from_plain(Study, with_streams(plain))


def _run(options: argparse.Namespace) -> int:
    study = _read(options)
    if options.dry_run:
        from statewise.config import to_plain
        from statewise.yaml12 import dump_yaml

        print(dump_yaml(to_plain(study)), end="")
        return 0

    from statewise.cli.tables.results import table_text
    from statewise.cli.watch import watching
    from statewise.jobs.executor import run_study
    from statewise.report import write_report

    root = options.out or Path("runs") / study.name
    workers = _workers(options, study)
    with watching(study.name, options.progress) as watch:
        run_study(study, root, workers=workers, watch=watch, tell=_tell)
    results = write_report(root)
    print(table_text(results, colour=sys.stdout.isatty()))
    print(f"\nreport: {root / 'report.html'}")
    if not results.complete:
        for note in (note for note in results.notes if note.startswith(("Unfinished", "Failed"))):
            _tell(note)
    return 0 if results.complete else 1


def _tell(line: str) -> None:
    print(f"statewise: {line}", file=sys.stderr, flush=True)


def _train(options: argparse.Namespace) -> int:
    study = _read(options)
    from statewise.errors import ConfigError, nearest

    names = study.names
    if options.arm not in names:
        raise ConfigError(f"--arm: no arm {options.arm!r}; {nearest(options.arm, names)}")
    if options.seed not in study.seeds:
        raise ConfigError(
            f"--seed: {options.seed} is not among the study's seeds {list(study.seeds)}"
        )

    from statewise.cli.watch import watching
    from statewise.jobs.executor import plan_training, run_jobs
    from statewise.jobs.folder import claimed
    from statewise.store import RunFolder
    from statewise.store.finished import FAILED, failure

    run = RunFolder(options.out or Path("runs") / study.name)
    workers = _workers(options, study)
    with claimed(study, run, workers=workers), watching(study.name, options.progress) as watch:
        waiting = plan_training(study, run, [options.arm], seeds=[options.seed])
        run_jobs(waiting, study, run, workers=workers, watch=watch)
    folder = run.arm(options.arm, options.seed)
    failed = {n: why for n in study.order() if (why := failure(run.arm(n, options.seed)))}
    if options.arm in failed or not (folder / "policy").is_dir():
        reasons = "; ".join(f"{name}: {why}" for name, why in failed.items())
        files = ", ".join(str(run.arm(name, options.seed) / FAILED) for name in failed)
        _tell(
            f"{options.arm} has no policy, because training failed ({reasons}); to try it again delete {files}"
        )
        return 1
    print(f"policy: {folder / 'policy'}")
    return 0


def _check(options: argparse.Namespace) -> int:
    # With --json nothing but the document may stand on standard output, whatever a user's code prints.
    aside = contextlib.redirect_stdout(sys.stderr) if options.json else contextlib.nullcontext()
    with aside:
        study = _read(options)

    import json

    from statewise.check import check_study
    from statewise.check.show import arm_text, exit_code, head_text, plain, summary_text
    from statewise.errors import RunError
    from statewise.store import RunFolder

    with aside:
        if options.run and not (options.run / "arms").is_dir():
            raise RunError(
                f"--run: {options.run} is no run folder; leave it out before the study has run"
            )
        run = RunFolder(options.run or Path("runs") / study.name)
        reports = []
        for report in check_study(
            study,
            arms=options.arm,
            run=run,
            items=options.items,
            only=options.only,
            quick=options.quick,
            watch=lambda line: print(line, file=sys.stderr, flush=True),
        ):
            if not (options.json or reports):  # what is refused is refused before the legend
                print(
                    head_text(study.name, len(set(options.arm)) or len(study.arms), options.items)
                )
            reports.append(report)
            if not options.json:
                print(arm_text(report, colour=sys.stdout.isatty()), flush=True)
    if options.json:
        print(json.dumps(plain(study.name, reports), indent=2, allow_nan=False))
    else:
        print(summary_text(reports))
    return exit_code(reports)


def _plan(options: argparse.Namespace) -> None:
    study = _read(options)
    import json

    from statewise.claims.power import Assumed, plan_claims
    from statewise.cli.tables.plan import plan_plain, plan_text
    from statewise.jobs.compare_runs import look_at
    from statewise.jobs.costs import measure_costs, sizes
    from statewise.results.run_reader import RunReader
    from statewise.study.spec import BASE

    assumed = Assumed(options.discordance, options.seed_sd, options.beyond)
    seen = look_at(study, options.run) if options.run else None
    scores = RunReader.open(seen.root).items if seen else None
    other = {n: seen.likeness.differences(n) for n in (BASE, *study.names)} if seen else {}
    roles = {task.key: task.role for task in study.tasks}
    claims = plan_claims(
        study.claims, roles, sizes(study.tasks), len(study.seeds), assumed, scores, other
    )
    costs = None
    if options.steps:
        costs = measure_costs(
            study,
            steps=options.steps,
            workers=_workers(options, study),
            seen=seen,
            tell=lambda line: print(line, file=sys.stderr, flush=True),
        )
    if options.json:
        plain = plan_plain(study.name, claims, costs, assumed)
        print(json.dumps(plain, indent=2, allow_nan=False))
    else:
        print(plan_text(study.name, claims, costs, assumed, colour=sys.stdout.isatty()), end="")


def _search(options: argparse.Namespace) -> None:
    study = _read(options)
    from statewise.cli.watch import watching
    from statewise.jobs.search import search

    root = options.out or Path("runs") / f"{study.name}-search"
    with watching(f"{study.name} search", options.progress) as watch:
        report = search(study, root, workers=_workers(options, study), watch=watch)
    for name, entry in report.items():
        print(name)
        for index, trial in enumerate(entry["trials"]):
            mark = "*" if index == entry["best"] else " "
            said = [
                "failed" if score is None else f"{score:.3f}" for score in trial["dev_accuracy"]
            ]
            print(f"  {mark} dev {', '.join(said)}  {trial['overrides']}")
            for seed, reason in trial.get("failed", {}).items():
                print(f"      failed: seed {seed}: {reason}")
    print("* best; write its values into the study file")


def _eval(options: argparse.Namespace) -> None:
    from statewise.cli.watch import counting
    from statewise.evaluate import Task, evaluate, write_items
    from statewise.evaluate.continued import ITEMS_PER_PART, kept_beside
    from statewise.formatting import interval_words, number
    from statewise.policy import Policy
    from statewise.stats import item_mean
    from statewise.store import check_file
    from statewise.study.models import best_device, fingerprint, world_base
    from statewise.study.worlds import WORLD_TASKS, check_tasks_of

    if options.out:
        check_file(options.out)
    location = world_base() if options.model == "world" else options.model
    tasks = []
    for text in options.task:
        name, *rest = text.split(":", 2)
        metric = rest[0] if rest else ""
        filter_name = rest[1] if len(rest) > 1 else None
        tasks.append(
            Task(
                name,
                "target",
                metric=metric or ("exact_match" if "gsm" in name else "acc"),
                filter=filter_name,
                num_fewshot=options.fewshot,
                limit=options.limit,
                data=None if name.startswith("pocket_") else options.data,
                sampled=options.sampled,
                world_seed=options.world_seed if name.startswith(WORLD_TASKS) else 0,
            )
        )
    check_tasks_of(location, tasks)
    policy = Policy.load(location, name="model", device=best_device(), trainable=False)
    with (
        kept_beside(options.out, fingerprint(str(location)), tasks, options.seed) as kept,
        counting() as count,
    ):
        items = evaluate(
            policy,
            tasks,
            arm="model",
            seed=options.seed,
            items_per_part=ITEMS_PER_PART,
            kept=kept,
            watch=count,
        )
        if options.out:
            write_items(options.out, items)
    for task in tasks:
        for decoding in dict.fromkeys(i.decoding for i in items if i.task == task.key):
            rows = [i for i in items if (i.task, i.decoding) == (task.key, decoding)]
            score = item_mean([i.score for i in rows])
            failed = [i.extraction_failed for i in rows if i.extraction_failed is not None]
            note = f"  extraction failed {sum(failed) / len(failed):.3f}" if failed else ""
            print(
                f"{task.key:28} {decoding:8} {number(score.value)} {interval_words(score)} n={score.n}{note}"
            )


def _states(options: argparse.Namespace) -> None:
    from statewise.probing.asking import drawing_of, places_of
    from statewise.probing.sample_file import draw_samples

    places = places_of(options)
    path, drawing = drawing_of(options, places)
    counts = draw_samples(places, drawing, path, lambda name: print(f"drawing {name}", flush=True))
    for name, count in counts.items():
        print(f"{name:36} {count:6} trajectories")
    print(path)


def _probe(options: argparse.Namespace) -> None:
    import json
    from dataclasses import asdict

    from statewise.cli.tables.probe import rows_text
    from statewise.probing.asking import asked_of, places_of, write_rows
    from statewise.probing.catalogue import run_probe
    from statewise.study.probes import KINDS

    if options.probe == "list":
        for name, kind in KINDS.items():
            print(f"{name:14}{kind.tells}{' (student and teacher)' if kind.taught else ''}")
        return
    asked, path = asked_of(options, places_of(options))
    rows = run_probe(options.probe, asked)
    write_rows(path, rows)
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2, allow_nan=False))
        return
    print(rows_text(rows, colour=sys.stdout.isatty()))
    print(f"\nrows: {path}")


def _report(options: argparse.Namespace) -> None:
    from statewise.report import write_report

    write_report(options.run, options.figures)
    print(options.run / "report.html")


def _serve(options: argparse.Namespace) -> None:
    import signal

    from statewise.report.server.listening import HOST
    from statewise.report.server.serve import serving, site_of

    # A shell gives what it starts with `&` no Ctrl-C; whoever stops it there says SIGTERM.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with serving(site_of(options.runs), options.port) as server:
        print(f"http://{HOST}:{server.port}/  (Ctrl-C ends it)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.run()


def _env(_: argparse.Namespace) -> None:
    import json

    from statewise.jobs.folder import hardware
    from statewise.store import environment

    print(json.dumps(environment() | hardware(), indent=2))


def _pretrain(options: argparse.Namespace) -> None:
    from statewise.config import from_plain, override, to_plain
    from statewise.jobs.pretrain import Recipe, pretrain
    from statewise.jobs.train import tokens_per_second
    from statewise.train import Row

    plain = to_plain(Recipe())
    for assignment in options.assignments:
        plain = override(plain, assignment)

    def watch(row: Row, steps: int) -> None:
        if row.step % 50 == 0 or row.step == steps:
            rate = f"{tokens_per_second(row):,.0f} tokens/s"
            print(f"step {row.step}/{steps}  loss {row.figures['loss']:.4f}  {rate}", flush=True)

    pretrain(from_plain(Recipe, plain), options.directory, watch=watch)
    print(options.directory)


def _figures(options: argparse.Namespace) -> None:
    from statewise.jobs.pretrain import dev_figures
    from statewise.policy import Policy

    for name, value in dev_figures(
        Policy.load(options.directory, name="base", trainable=False)
    ).items():
        print(f"{name:28} {value:.3f}")


def _random_model(options: argparse.Namespace) -> None:
    from statewise.config import from_plain, override, to_plain
    from statewise.random_model import QWEN3_06B, Shape, make_random_model
    from statewise.store import check_folder, whole_directory, write_json
    from statewise.study.models import MARKER, refuse_foreign, world_base

    check_folder(options.directory, "directory")
    refuse_foreign(options.directory, "randomly_initialised")
    plain = to_plain(QWEN3_06B if options.shape == "qwen3-0.6b" else Shape())
    for assignment in options.assignments:
        plain = override(plain, assignment)
    tokenizer = options.tokenizer or Path(world_base())
    shape = from_plain(Shape, plain)
    with whole_directory(options.directory) as beside:
        parameters = make_random_model(beside, shape, tokenizer=tokenizer, seed=options.seed)
        write_json(beside / MARKER, {"randomly_initialised": True, "seed": options.seed})
    print(f"{options.directory}: {parameters / 1e6:.1f} M random parameters")


def _workers(options: argparse.Namespace, study) -> int:
    """One worker a core where the model is small and there is no accelerator to share."""
    from statewise.study.models import is_small

    if options.workers is not None:
        return options.workers
    return (os.cpu_count() or 1) if is_small(study) else 1


if __name__ == "__main__":
    sys.exit(main())
