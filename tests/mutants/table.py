"""Every mutant, and the faults of docs/pitfalls.md that they stand for."""

from tests.mutants import (
    composed,
    divergences,
    evaluation,
    gradient,
    measures,
    methods,
    objectives,
    policies,
    reading,
    sampling,
    sources,
    states,
    study,
    supervision,
    training,
)

MUTANTS = (
    *states.MUTANTS,
    *policies.MUTANTS,
    *gradient.MUTANTS,
    *divergences.MUTANTS,
    *objectives.MUTANTS,
    *supervision.MUTANTS,
    *sources.MUTANTS,
    *composed.MUTANTS,
    *sampling.MUTANTS,
    *training.MUTANTS,
    *methods.MUTANTS,
    *reading.MUTANTS,
    *evaluation.MUTANTS,
    *measures.MUTANTS,
    *study.MUTANTS,
)

PITFALLS: dict[str, tuple[str, ...]] = {
    "Each micro-batch is divided by its own count": ("denominator", "selection"),
    "The count is taken before tokens are cut": ("denominator", "normaliser"),
    "A group that lost some of its samples": ("group",),
    "A KL over the top k tokens alone": ("tail", "support"),
    "The top k without renormalising": ("tail",),
    "A top-k KL used as an advantage": ("pairing",),
    "Clipping each entry of a divergence": ("entry clip",),
    "A fused kernel computes another JSD": ("direction",),
    "k1 or k3 of the sampled token": ("estimator as loss", "log-ratio"),
    "Something that is a constant is not detached": ("detach",),
    "Code and text disagree on which way": ("direction",),
    "Logits are read against the token": ("shift",),
    "The teacher is scored at temperature 0": ("teacher temperature",),
    "Padding and stop token share an id": ("eos",),
    "Rows are padded on the left": ("padding", "position ids"),
    "A chat template that does not mark the answer": ("mask",),
    "Teacher and student count the same number": ("tokenizer", "vocabulary"),
    "Teacher and student read the question": ("template", "shift"),
    "The stop token is dropped": ("eos",),
    "Sampling from the top 50 tokens": ("top-k", "top-p"),
    "The sampler's log-prob is of the cut": ("temperature", "old policy"),
    "The two differ although nothing is learned": ("temperature", "optimiser"),
    "A recipe is stable on one inference engine": ("position ids", "cache"),
    "Batched generation reseeds": ("seed",),
    "Its cache is sized": ("memory",),
    "Logits of student and teacher over": ("memory",),
    "A resumed run begins its data again": ("resume", "data stream"),
    "Checkpoints that other tools cannot read": ("artefacts",),
    "The same command gives other numbers": ("seed",),
    "A key that nobody knows": ("config key",),
    "A GSM8K score hangs on prompt": ("extraction", "template", "stop string"),
    "A tracker's database locks": ("lock",),
}
"""By the first words of a row of docs/pitfalls.md that names a test: the kinds that stand for it."""

NOT_PLANTED: dict[str, str] = {
    "math-verify's timeouts are signals": "its tests are skipped without the extra `math`",
}
"""Rows that name a test and have no mutant, each with the reason."""
