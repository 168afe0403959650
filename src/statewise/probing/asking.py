"""From the options of `statewise states` and `statewise probe` to what they act on, and rows to files."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from statewise.errors import ConfigError, RunError, nearest
from statewise.evaluate import Task
from statewise.policy import Policy
from statewise.probing.context import trained_role
from statewise.probing.inputs import Asked, Row
from statewise.probing.resolve import Places, find_policies, load_policy
from statewise.probing.sample_file import DATASET, Drawing, prompts_named
from statewise.probing.samples import LEARNER
from statewise.results.probes import ROWS
from statewise.store import check_file, is_there, layout, whole_file, write_json
from statewise.study.models import WORLD_BASE, fingerprint, world_base
from statewise.study.probes import KINDS
from statewise.study.spec import BASE
from statewise.trajectory import Trajectory
from statewise.trajectory_store import About, read_about, read_states


def places_of(options: Namespace) -> Places:
    """The policies that both commands name."""
    places = find_policies(
        options.places, arms=options.arm, seed=options.seed, trust_code=options.trust_code
    )
    if options.base is None:
        return places
    return replace(places, base=world_base() if options.base == WORLD_BASE else options.base)


def drawing_of(options: Namespace, places: Places) -> tuple[Path, Drawing]:
    """Where samples go, and how they are drawn. Raises ConfigError where no place can be guessed."""
    if options.out is None and places.root is None:
        raise ConfigError(
            "no run folder was given, so say where the samples go: --out FILE.parquet"
        )
    path = options.out or Path(str(places.root)) / layout.SAMPLES
    check_file(path)
    if is_there(path) and not options.overwrite:
        raise RunError(
            f"{path} is there, and samples are drawn once; give another --out, or --overwrite to draw anew"
        )
    study = places.study
    if options.retention is not None:
        retention = tuple(_retention(name, options.data) for name in options.retention)
    else:
        retention = tuple(t for t in study.tasks if t.role == "retention") if study else ()
    tokens = options.max_new_tokens
    if tokens is None:
        tokens = study.drift.max_new_tokens if study and study.drift else 120
    return path, Drawing(
        prompts=prompts_named(options.prompts, places, options.limit),
        max_new_tokens=tokens,
        samples_per_prompt=options.samples_per_prompt,
        temperature=options.temperature,
        retention=retention,
        retention_limit=options.retention_limit,
        retention_tokens=options.retention_tokens,
        seed=options.sampling_seed,
    )


def asked_of(options: Namespace, places: Places) -> tuple[Asked, Path]:
    """Policies and samples, loaded, and where the rows go.

    Raises ConfigError before anything is loaded for what is unknown, RunError for samples that are missing.
    """
    if options.probe not in KINDS:
        raise ConfigError(f"--probe: no probe {options.probe!r}; {nearest(options.probe, KINDS)}")
    depths = options.depths
    if options.states is None and places.root is None:
        raise ConfigError(
            f"no run folder was given (no study.yaml in {', '.join(options.places)}), so say which samples "
            "to read: --states FILE"
        )
    named = options.states or [str(_samples_of(Path(str(places.root))))]
    samples: dict[str, list[Trajectory]] = {}
    about: dict[str, About] = {}
    files = []
    for text in named:
        path, wanted = _file_and_sample(text)
        known = read_about(path)
        files.append(path)
        for name in known if wanted is None else [wanted]:
            if name in samples:
                raise ConfigError(f"--states: two samples are called {name!r}; give FILE:SAMPLE")
            samples[name] = read_states(path, name)
            about[name] = known[name]
    if options.trained is not None and options.trained not in samples:
        raise ConfigError(
            f"--trained: no sample {options.trained!r}; {nearest(options.trained, samples)}"
        )
    out = options.out or files[0].with_name(f"{files[0].stem}-{options.probe}.parquet")
    if out.suffix not in (".parquet", ".json"):
        raise ConfigError(f"--out: rows are written as .parquet or .json, found {str(out)!r}")
    check_file(out)
    others = {name: place for name, place in places.policies.items() if name != BASE}
    if options.teacher is not None and options.teacher not in {*others, BASE}:
        raise ConfigError(
            f"--teacher: no policy {options.teacher!r} among those given (an arm of the run comes by --arm); "
            f"{nearest(options.teacher, [*others, BASE])}"
        )
    base = None if places.base is None else load_policy(BASE, places.base)
    subjects = [name for name in others if name not in places.brought]
    policies: dict[str, Policy] = {}
    for name in others if KINDS[options.probe].taught else subjects:
        beside = base or next(iter(policies.values()), None)
        policies[name] = load_policy(name, others[name], beside)
    teachers = {name: places.teachers.get(name, ()) for name in subjects}
    if options.teacher is not None:
        teachers = dict.fromkeys(subjects, (options.teacher,))
    locations = others | ({BASE: places.base} if places.base else {})
    asked = Asked(
        base=base,
        policies=policies,
        teachers=teachers,
        samples=samples,
        about=about,
        prints={name: fingerprint(place) for name, place in locations.items()},
        clip=options.clip,
        depths_tokens=depths,
        max_new_tokens=options.max_new_tokens,
        seed=options.sampling_seed,
    )
    return replace(asked, trained=_trained(asked, places, options.trained)), out


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as Parquet or JSON, by the file's name, whole or not at all."""
    plain = [asdict(row) for row in rows]
    if path.suffix == ".json":
        write_json(path, plain)
        return
    with whole_file(path) as beside:
        pq.write_table(pa.Table.from_pylist(plain, schema=ROWS), beside)


def _samples_of(root: Path) -> Path:
    """The samples of a run. Raises RunError, with the command that draws them, where there are none."""
    path = root / layout.SAMPLES
    if not is_there(path):
        raise RunError(
            f"no state samples at {path}; draw them by `statewise states {root}`, or name others by --states"
        )
    return path


def _trained(asked: Asked, places: Places, named: str | None) -> dict[str, str]:
    """By policy, the sample whose states it was trained on: `named`, or what its arm's first source visits.

    A policy from outside of a run is taken to have been trained on the dataset.
    """
    if named is not None:
        return dict.fromkeys(asked.policies, named)
    study, found = places.study, {}
    for policy in asked.policies:
        role: str | None = DATASET
        if study is not None and policy in study.names:
            arm = study.trained_as(policy)
            role = trained_role(arm.streams[0].source) if arm else None
        if role is None:
            continue
        if role in asked.samples and role != LEARNER and not role.startswith("teacher:"):
            sample = role
        else:  # roles: any policy's file of a study has a `learner`
            sample = asked.own(policy if role == LEARNER else role.removeprefix("teacher:"))
        if sample is not None:
            found[policy] = sample
    return found


def _retention(name: str, data: str | None) -> Task:
    return Task(name, "retention", metric="acc", data=None if name.startswith("pocket_") else data)


def _file_and_sample(text: str) -> tuple[Path, str | None]:
    """`FILE` or `FILE:SAMPLE`; a file whose own name holds a colon is taken whole."""
    if Path(text).exists():
        return Path(text), None
    path, colon, sample = text.rpartition(":")
    return (Path(path), sample) if colon and Path(path).exists() else (Path(text), None)
