"""Checks of tokens: encodings, chat template, masks, and the stop token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from statewise.arms import only_in_contexts
from statewise.check.finding import Found, Line, Skip
from statewise.check.subject import Fit, Subject, has, sampled, spoken_weights
from statewise.errors import ConfigError, ModelError
from statewise.gradient import Rollout, state_factors
from statewise.policy import Policy
from statewise.sandbox import render_chat
from statewise.sources import Filtered, Mixture
from statewise.study.models import check_same_encoding
from statewise.trajectory import DATASET, Trajectory, role

TEXTS = 64
"""How many prompts with their references are encoded by both tokenizers."""
STOPPING = 0.5
"""Share of the completions that had room below which the check warns that they do not stop."""


def encodings(subject: Subject, texts: Sequence[str]) -> Found:
    """Every teacher reads the student's tokens: the same vocabulary, ids and head, and the same texts."""
    name = "encoding"
    others = [t for t in subject.teachers if t.module is not subject.student.module]
    if not others:
        live = "no teacher but the student itself" if subject.teachers else "no teacher"
        return Skip(name, live)
    for teacher in others:
        apart = only_in_contexts(subject.arm.streams, teacher)
        check_same_encoding(subject.student, teacher, own_prompts=apart)
        for text in texts:
            if subject.student.to_ids(text).tolist() != teacher.to_ids(text).tolist():
                raise ModelError(
                    f"{teacher.name} encodes this differently from the student: {text[:80]!r}; "
                    "a teacher must share the student's tokenizer"
                )
    entries = len(subject.student.tokenizer.get_vocab())
    return Line(
        "pass",
        name,
        f"{', '.join(t.name for t in others)}: {entries:,} vocabulary entries, {len(texts)} texts of the study",
        values={"vocabulary": entries, "texts": len(texts), "teachers": len(others)},
    )


def sample_texts(fits: Sequence[Fit]) -> list[str]:
    """The first prompts and references of each stream."""
    texts = []
    for fit in fits:
        for i in range(min(TEXTS, len(fit.prompts))):
            prompt = fit.prompts.items[i]
            texts += [prompt.text, prompt.reference or ""]
    return [text for text in dict.fromkeys(texts) if text]


def chat_template(subject: Subject, texts: Sequence[str]) -> Line:
    """What a chat template means for a study whose prompts are plain text.

    Masks here are written down as tokens are chosen, never read from a template; a trainer that
    reads them needs `{% generation %}` around the answer, or its mask is all ones or all zeros.
    """
    name = "chat template"
    tokenizer: Any = subject.student.tokenizer
    template = getattr(tokenizer, "chat_template", None)
    if not template:
        return Line(
            "pass", name, "none: the prompts are plain text", values={"markers": None, "used": None}
        )
    text = "\n".join(template.values()) if isinstance(template, dict) else str(template)
    if fault := _chat_fault(tokenizer, template):
        return Line(
            "warn",
            name,
            f"cannot be used: {fault}",
            "repair chat_template in the tokenizer's folder, or write the turns into prompts.template",
            values={"markers": None, "used": None},
        )
    marked = "{% generation" in text or "{%- generation" in text
    marks = [token for token in tokenizer.get_added_vocab() if token in text]
    used = not marks or any(mark in written for mark in marks for written in texts)
    prompts = (
        "the prompts use its turns" if used else "the prompts are plain text and do not use it"
    )
    values = {"markers": int(marked), "used": int(used)}
    if marked:
        return Line("pass", name, f"marks the answer; {prompts}", values=values)
    fix = (
        "nothing here reads it: a token's owner is its mask. For a trainer that masks by template, wrap the "
        "answer in {% generation %} ... {% endgeneration %}"
    )
    if not used:
        fix += "; for a model tuned on chats, write its turns into prompts.template"
    return Line("warn", name, f"without {{% generation %}} markers; {prompts}", fix, values)


def _chat_fault(tokenizer: Any, template: object) -> str | None:
    """What is wrong with a chat template when it writes one question, None where nothing is."""
    named = template if isinstance(template, dict) else {"default": template}
    chat = [{"role": "user", "content": "1 + 1 = ?"}]
    for name, text in named.items():
        try:
            render_chat(
                str(text),
                chat,
                f"chat_template {name!r}" if isinstance(template, dict) else "chat_template",
                add_generation_prompt=True,
                **tokenizer.special_tokens_map,
            )
        except ConfigError as error:
            return str(error)
    return None


def masks(rollouts: Sequence[Rollout]) -> Line:
    """Every row has states that are taught, no prompt token is one, and each term speaks of some."""
    rows = [t for rollout in rollouts for t in rollout.trajectories]
    silent = sum(t.supervised_tokens == 0 for t in rows)
    taught_prompt = [t for t in rows if t.weights[: t.prompt_tokens].any()]
    every = [t for t in rows if t.prompt_tokens > 1 and t.weights[1:].all()]
    mute = [
        f"term {number} of stream {place} (on: {', '.join(term.on) or 'all'})"
        for place, rollout in enumerate(rollouts)
        for number, term in enumerate(rollout.stream.terms)
        if not any(f.any() for f in state_factors(term, rollout.trajectories))
    ]
    tokens = sum(len(t) for t in rows)
    taught = sum(t.supervised_tokens for t in rows)
    values = {"rows": len(rows), "rows_without_states": silent, "tokens": tokens, "taught": taught}
    figure = f"{taught} of {tokens} tokens of {len(rows)} rows are taught"
    # A filter drops rows, and a mixture may send none of a few prompts to a source.
    sources = [rollout.stream.source for rollout in rollouts]
    expected = any(has(s, Filtered) or has(s, Mixture) for s in sources)
    fewer = "drops rows by design; --items for more of them" if expected else ""
    if every:
        return Line(
            "fail",
            "masks",
            f"{len(every)} of {len(rows)} rows are all ones: {every[0].prompt.id} teaches its own prompt",
            "give prompt tokens weight 0 (owner `prompt`)",
            values,
        )
    if taught_prompt:
        return Line(
            "fail",
            "masks",
            f"{len(taught_prompt)} of {len(rows)} rows teach tokens of their prompt: {taught_prompt[0].prompt.id}",
            "give prompt tokens weight 0 (owner `prompt`)",
            values,
        )
    if mute or silent == len(rows):
        what = mute[0] if mute and silent < len(rows) else "every row"
        return Line(
            "warn" if expected else "fail",
            "masks",
            f"all zeros: {what} speaks of no state; {figure}",
            fewer or "let the source weigh the tokens that the term is `on`",
            values,
        )
    if silent:
        return Line(
            "warn",
            "masks",
            f"{silent} of {len(rows)} rows are all zeros; {figure}",
            fewer or "look for empty completions, and for prompts that fill the context",
            values,
        )
    return Line("pass", "masks", f"{figure}; no row all zeros or all ones", values=values)


def stop_trained(subject: Subject, rollouts: Sequence[Rollout], fits: Sequence[Fit]) -> Found:
    """Rows that end by themselves teach the stop token as their last action, and gold rows do end.

    A gold completion that is cut has none; a student that never sees it as a label never stops.
    """
    name, stops = "stop token trained", subject.student.stop_token_ids
    ended = gold = with_stop = inside = 0
    never: list[int] = []
    for place, rollout in enumerate(rollouts):
        ends = stopped_rows = 0
        for index, row in enumerate(rollout.trajectories):
            said = spoken_weights(rollout, index) != 0
            if not said.any():
                continue
            is_gold = role(row.owners[row.owner_codes[-1]]) == DATASET
            if not (row.stopped or is_gold):
                continue
            is_stop = np.isin(row.token_ids, list(stops))
            ends += 1
            gold += is_gold
            stopped_rows += bool(is_stop[-1] and said[-1])
            inside += bool((is_stop & said)[row.prompt_tokens : -1].any())
        ended, with_stop = ended + ends, with_stop + stopped_rows
        if ends and not stopped_rows:
            never.append(place)
    token = subject.student.tokenizer.decode([subject.student.eos_token_id])
    cut = sum(
        f.prompts.truncated
        for f, r in zip(fits, rollouts, strict=True)
        if r.stream.source.room_tokens is None
    )
    values = {"rows": ended, "with_stop": with_stop, "stop_inside": inside, "cut_in_all_data": cut}
    if ended == 0:
        return Skip(name, "no row ended by itself")
    figure = f"{token} is the last taught action of {with_stop} of {ended} rows that end"
    if cut:
        figure += f"; {cut} gold completions of all the data are cut before it"
    room = (
        "shorten or drop long rows (too_long: drop)"
        if gold
        else "end rows by a stop token instead of stop_strings, and let a term speak of it"
    )
    if never:
        # Other streams that end well must not hide it: this one teaches to go on.
        if len(rollouts) > 1:
            figure += f"; never in stream {', '.join(str(place) for place in never)}"
        return Line("fail", name, figure, room, values)
    if inside:
        return Line(
            "warn",
            name,
            f"{figure}; {inside} rows hold a stop token before their end",
            "remove it from the completions: what is sampled ends at the first one",
            values,
        )
    if with_stop < ended or cut:
        return Line("warn", name, figure, room, values)
    return Line("pass", name, figure, values=values)


def stop_emitted(subject: Subject, rollouts: Sequence[Rollout]) -> Found:
    """How many of the sampled completions that had room end by themselves; warns where under half do.

    A completion had room where the gold answer of its prompt, with a stop token, would have fitted into the
    tokens that it got: one that was cut earlier (a short branch, a low limit) says nothing of stopping. One
    whose prompt has no reference had room, for all that is known.

    Half, because a few prompts are walked: of 4 rows of a policy that stops 9 times of 10 fewer than 2 stop
    in 4 checks of 1,000 (`0.1^4 + 4 * 0.9 * 0.1^3`), and of one that stops once in 10 in 95 of 100
    (`0.9^4 + 4 * 0.1 * 0.9^3`). A policy that goes on behind its answer spends most of a step's tokens there,
    is paid for none of them, and is scored by where it was cut.
    """
    name = "stop token emitted"
    rows = [t for r in sampled(rollouts) for t in r.trajectories if t.sampling is not None]
    if not rows:
        return Skip(name, "nothing is sampled")
    stopped = sum(t.stopped for t in rows)
    roomy = sum(t.stopped or _had_room(t, subject.student) for t in rows)
    lengths = [len(t) - t.prompt_tokens for t in rows]
    mean = float(np.mean(lengths))
    values = {
        "completions": len(rows),
        "with_room": roomy,
        "stopped": stopped,
        "tokens_mean": mean,
    }
    figure = f"{stopped} of {len(rows)} sampled completions stop by themselves"
    if roomy < len(rows):
        figure += f", {len(rows) - roomy} were cut before the gold answer would have ended"
    figure += f"; {mean:.0f} tokens on average"
    if stopped and stopped >= STOPPING * roomy:
        return Line("pass", name, figure, values=values)
    return Line(
        "warn",
        name,
        figure,
        "raise max_new_tokens (branch_tokens of a continuation); for a model that never stops, see whether its "
        "generation_config names the stop token of its prompts' format, or train on gold completions first",
        values,
    )


def _had_room(row: Trajectory, student: Policy) -> bool:
    """True where the gold answer of its prompt would have ended within the tokens of a row that was cut."""
    reference = row.prompt.reference
    return not reference or len(row.completion_ids) > len(student.reference_ids(row.prompt))
