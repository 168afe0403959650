"""`make mutants`: plant every bug, one at a time, and see a test fail."""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from tests.mutants import runner
from tests.mutants.mutant import CannotPlantError, Mutant
from tests.mutants.table import MUTANTS

VERDICTS = {
    "passed": "SURVIVES",
    "hung": "SAYS NOTHING: time limit",
    "broken": "SAYS NOTHING: no test ran",
}
"""Of everything that is no kill."""

CHECKOUT = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 where every mutant is killed, 1 where one survives, 2 where one cannot be planted."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument(
        "--only",
        nargs="+",
        default=[""],
        metavar="TEXT",
        help="those whose kind, name or file holds one of these",
    )
    parser.add_argument("--list", action="store_true", help="name them and run nothing")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="how many at once")
    parser.add_argument(
        "--seconds", type=float, default=runner.SECONDS, help="processor time of a mutant's tests"
    )
    parser.add_argument(
        "--unchecked", action="store_true", help="do not run the tests without a mutant first"
    )
    parser.add_argument("--markdown", action="store_true", help="end with a table, one row a kind")
    parser.add_argument("--show", action="store_true", help="print the output of survivors' tests")
    given = parser.parse_args(arguments)
    chosen = [
        m for m in MUTANTS if any(text in f"{m.kind} {m.name} {m.file}" for text in given.only)
    ]
    if not chosen:
        say(f"no mutant's kind, name or file holds {' or '.join(given.only)}")
        return 2
    try:
        for mutant in chosen:
            mutant.planted(CHECKOUT)
            for test in mutant.missing_tests(CHECKOUT):
                raise CannotPlantError(f"mutant {mutant.name!r} names {test}, which is not there")
    except CannotPlantError as error:
        say(str(error))
        return 2
    if given.list:
        for mutant in chosen:
            say(f"{mutant.kind:20} {mutant.name}  ({mutant.file})")
        return 0
    began = time.monotonic()
    # Ended from outside, it still ends its children and leaves no copies behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    runner.preload()
    with runner.pristine(CHECKOUT) as copy:
        if not given.unchecked and not sound(copy, chosen, given):
            return 1
        outcomes = plant(copy, chosen, given)
    bad = [m for m in chosen if outcomes[m].state != "failed"]
    say(f"\n{len(chosen) - len(bad)} of {len(chosen)} killed in {time.monotonic() - began:.0f} s")
    for mutant in bad:
        verdict = VERDICTS[outcomes[mutant].state]
        say(f"{verdict}: {mutant.name} ({mutant.kind}; {mutant.file}), tests {mutant.tests}")
        if given.show:
            say(outcomes[mutant].output)
    if given.markdown:
        say(markdown(chosen, outcomes))
    return 1 if bad else 0


def sound(copy: Path, chosen: Sequence[Mutant], given: argparse.Namespace) -> bool:
    """True where every named test passes as long as nothing is planted."""
    by_file: dict[str, dict[str, None]] = defaultdict(dict)
    for test in itertools.chain.from_iterable(m.tests for m in chosen):
        by_file[test.partition("::")[0]][test] = None
    jobs = [(None, tuple(tests)) for tests in by_file.values()]
    failures = []

    def tell(place: int, outcome: runner.Outcome) -> None:
        if outcome.state != "passed":
            file = list(by_file)[place]
            failures.append(
                f"{file}: {outcome.state} without a mutant: {outcome.by}\n{outcome.output}"
            )

    began = time.monotonic()
    runner.run_all(copy, jobs, workers=given.workers, seconds=10 * given.seconds, tell=tell)
    for failure in failures:
        say(failure)
    count = sum(map(len, by_file.values()))
    if not failures:
        say(f"{count} tests pass without a mutant, {time.monotonic() - began:.0f} s\n")
    return not failures


def plant(
    copy: Path, chosen: Sequence[Mutant], given: argparse.Namespace
) -> dict[Mutant, runner.Outcome]:
    """Every mutant's outcome, said as it comes."""
    outcomes: dict[Mutant, runner.Outcome] = {}

    def tell(place: int, outcome: runner.Outcome) -> None:
        mutant = chosen[place]
        outcomes[mutant] = outcome
        by = VERDICTS.get(outcome.state, outcome.by)
        say(f"{mutant.kind:20} {mutant.name:58} {outcome.seconds:5.1f} s  {by}")

    jobs = [(mutant, mutant.tests) for mutant in chosen]
    runner.run_all(copy, jobs, workers=given.workers, seconds=given.seconds, tell=tell)
    return outcomes


def markdown(chosen: Sequence[Mutant], outcomes: dict[Mutant, runner.Outcome]) -> str:
    """One row a kind: how many, how many killed, and a test that kills one."""
    lines = ["", "| kind | mutants | killed | by, among others |", "|---|---|---|---|"]
    for kind in dict.fromkeys(m.kind for m in chosen):
        those = [outcomes[m] for m in chosen if m.kind == kind]
        killed = [o for o in those if o.state == "failed"]
        by = killed[0].by.split("[")[0] if killed else "none"
        lines.append(f"| {kind} | {len(those)} | {len(killed)} | `{by}` |")
    return "\n".join(lines)


def say(line: str) -> None:
    """Print at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
