"""The run folder: what is written where, how nothing is ever half-written, and how it is read.

    RUN/study.yaml                      the resolved study, itself a study file
    RUN/environment.json                the base's fingerprint; versions and hardware of every call
    RUN/arms/<arm>/seed-<n>/            one folder an arm and seed
        metrics.jsonl                   one row a step; repeats exactly under the same seed
        timing.jsonl                    seconds and tokens a second of the same steps
        dev.jsonl                       the dev curve
        first-step.parquet              rows of the first step, while it trains: what the end is compared on
        checkpoint/                     where training continues after a kill; gone when it ends
        match.json, match.jsonl         what a matched arm was to reach; every checkpoint that was asked
        nearest/                        weights of a matched arm's candidates; gone when training ends
        failed.json                     why and at which step its training failed; delete it to train again
        policy/                         the trained policy, a Hugging Face directory
        train.manifest.json             what training wrote: names, sizes, digests (store/manifest.py)
        items.parquet                   one row an item, task and decoding
        states.parquet                  the rollouts whose prefixes drift compares
        drift.json                      drift from base
        budget.json                     what the arm cost and how far it moved
        measure.manifest.json           what measuring wrote
        probes.jsonl                    cheap probes while it trained
        probe_states.parquet            what it drew for the probes (probing/samples.py)
        probing/                        what the probes have answered so far; gone when all have
        microscope.json                 a few completions token by token (probing/microscope.py); first seed only
        probes.skipped.json             which did not apply or had no answer, or only a part, and why
        probes.parquet                  what every probe answered, one row a number
        probe.manifest.json             what probing wrote
        jobs.timing.jsonl, probes.timing.jsonl    seconds of its jobs and of each probe
        .verified.json                  which digests were taken of which size and time of a file
        .lock                           held by the process that writes here
    RUN/results.json, report.html, report.md, figures/
    RUN/samples.parquet                 what `statewise states` drew
    RUN/.rows.json                      digests of the files of rows that the study names
    RUN/.places.json                    where on this machine the bases are that adapters name
    RUN/.lock, .preflight-passed        held by the process that runs the study; its inputs were looked at

Every file appears whole or not at all, and is on the disk then (store/writing.py). The `.jsonl` files
grow by lines; a line that a kill tore is not read, and a resumed run cuts what it will redo. A job is
finished while its manifest holds. Reading never trusts: shapes and sizes are checked, names lead
nowhere else, and whatever is damaged is one line that says what to delete (store/reading.py).
"""

from __future__ import annotations

from statewise.store.folder import MARKER, RunFolder, check_file, check_folder, exclusive, is_name
from statewise.store.machine import environment
from statewise.store.manifest import Held, digest_of, held, manifest_path, seal, sealed_of, unseal
from statewise.store.reading import (
    MAYBE,
    NUMBER,
    Shape,
    cut_rows,
    damaged,
    is_there,
    misfit,
    must_be_file,
    read_json,
    read_rows,
    read_seconds,
    read_table,
    remedy,
)
from statewise.store.writing import (
    append_rows,
    remove,
    sync,
    tidy,
    whole_directory,
    whole_file,
    write_json,
    write_text,
    written,
)

__all__ = [
    "MARKER",
    "MAYBE",
    "NUMBER",
    "Held",
    "RunFolder",
    "Shape",
    "append_rows",
    "check_file",
    "check_folder",
    "cut_rows",
    "damaged",
    "digest_of",
    "environment",
    "exclusive",
    "held",
    "is_name",
    "is_there",
    "manifest_path",
    "misfit",
    "must_be_file",
    "read_json",
    "read_rows",
    "read_seconds",
    "read_table",
    "remedy",
    "remove",
    "seal",
    "sealed_of",
    "sync",
    "tidy",
    "unseal",
    "whole_directory",
    "whole_file",
    "write_json",
    "write_text",
    "written",
]
