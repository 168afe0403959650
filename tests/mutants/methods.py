"""The methods, and what may be paired with what."""

from tests.mutants.mutant import Mutant

ARMS = "core/test_arms.py"
APART = f"{ARMS}::test_what_tells_two_methods_apart_that_share_their_kinds"
REFUSED = f"{ARMS}::test_a_source_and_a_term_that_mean_nothing_together_are_refused"
PAIRING = "arms/pairing.py"
RL = "arms/reinforcement.py"

MUTANTS = (
    Mutant(
        "schedule",
        "epochs are rounded down to steps",
        "arms/arm.py",
        "math.ceil(self.epochs",
        "math.floor(self.epochs",
        (f"{ARMS}::test_epochs_become_steps_rounded_up",),
    ),
    Mutant(
        "normaliser",
        "GRPO counts every token the same",
        RL,
        'does.\n    """\n    term = Term(GroupAdvantage(reward), ClippedSurrogate(clip, clip), normaliser="sequence")',
        'does.\n    """\n    term = Term(GroupAdvantage(reward), ClippedSurrogate(clip, clip), normaliser="token")',
        ("core/test_arms.py::test_a_method_is_one_choice_on_each_axis",),
    ),
    Mutant(
        "normaliser",
        "RLOO averages the log-probs of a completion",
        RL,
        'LeaveOneOut(reward), Reinforce(), normaliser="constant", constant_tokens=1.0',
        'LeaveOneOut(reward), Reinforce(), normaliser="sequence"',
        (APART,),
    ),
    Mutant(
        "group",
        "Dr.GRPO divides by the spread",
        RL,
        'GroupAdvantage(reward, scale="none")',
        "GroupAdvantage(reward)",
        (APART,),
    ),
    Mutant(
        "clip side",
        "DAPO clips higher below",
        RL,
        "ClippedSurrogate(clip_low, clip_high)",
        "ClippedSurrogate(clip_high, clip_low)",
        (APART,),
    ),
    Mutant(
        "coefficient",
        "a teacher's advantage counts as much as the reward's",
        RL,
        'Term(taught, bounded, coefficient=coefficient, normaliser="sequence")',
        'Term(taught, bounded, normaliser="sequence")',
        ("core/test_arms.py::test_what_tells_two_methods_apart_that_share_their_kinds",),
    ),
    Mutant(
        "coefficient",
        "a rehearsal's share is dropped",
        "arms/variants.py",
        "(term,), prompts_per_step, share)",
        "(term,), prompts_per_step)",
        (f"{ARMS}::test_rehearsal_is_a_second_stream_and_replay_leaves_it_alone",),
    ),
    Mutant(
        "direction",
        "GKD's lambda is the share of the data set",
        "arms/distillation.py",
        "(Learner(max_new_tokens), Dataset())",
        "(Dataset(), Learner(max_new_tokens))",
        ("core/test_arms.py::test_what_tells_two_methods_apart_that_share_their_kinds",),
    ),
    Mutant(
        "pairing",
        "a top-k divergence passes for an advantage",
        PAIRING,
        "if not set(given) <= set(taken):",
        "if not given:",
        (f"{ARMS}::test_the_signal_decides_which_objective_fits_and_a_refusal_names_both_sides",),
    ),
    Mutant(
        "pairing",
        "a filtered learner needs no data set's permission, nor does a plain one",
        PAIRING,
        'own = "student" in spoken and not isinstance(source, Filtered | Stored)',
        "own = False",
        (REFUSED,),
    ),
    Mutant(
        "pairing",
        "a policy gradient takes the teacher's tokens",
        PAIRING,
        'if set(spoken) != {"student"}:',
        'if "student" not in spoken:',
        (REFUSED,),
    ),
    Mutant(
        "pairing",
        "a policy gradient takes greedy samples",
        PAIRING,
        "sampling is not None and not sampling.is_full",
        "sampling is not None and sampling.top_k > 0",
        (REFUSED,),
    ),
    Mutant(
        "pairing",
        "a group of one is accepted",
        PAIRING,
        "source.samples_per_prompt < 2",
        "source.samples_per_prompt < 1",
        (REFUSED,),
    ),
    Mutant(
        "pairing",
        "another run's samples count as on-policy",
        PAIRING,
        "isinstance(inner, Stored) and importance is None",
        "inner is None and importance is None",
        ("core/test_arms.py::test_a_source_and_a_term_that_mean_nothing_together_are_refused",),
    ),
    Mutant(
        "pairing",
        "the student teaches itself what it says already",
        PAIRING,
        "repeats and supervision.context is None and is_live(supervision.teacher)",
        "repeats and supervision.context is None and supervision.teacher is None",
        ("core/test_arms.py::test_a_source_and_a_term_that_mean_nothing_together_are_refused",),
    ),
    Mutant(
        "pairing",
        "a part of a mixture is not looked at",
        PAIRING,
        "for part in _parts(source):",
        "for part in list(_parts(source))[:1]:",
        ("core/test_arms.py::test_a_source_and_a_term_that_mean_nothing_together_are_refused",),
    ),
    Mutant(
        "pairing",
        "dropout shifts the ratio of importance weights",
        "arms/arm.py",
        '"old_logprobs" in t.objective.reads or t.importance for t in terms',
        '"old_logprobs" in t.objective.reads for t in terms',
        (f"{ARMS}::test_dropout_and_ratios_do_not_go_together",),
    ),
)
