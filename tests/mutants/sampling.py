"""The draw of a token, and the engines for models that the fast one does not know."""

from tests.mutants.mutant import Mutant

CHOOSE, STOPS, LOCKSTEP, GENERATE = (
    "rollout/sampling.py",
    "rollout/stops.py",
    "rollout/lockstep.py",
    "rollout/generate.py",
)
TEST, ROLLOUT = "core/test_sampling.py", "core/test_rollout.py"
EXACT = f"{TEST}::test_behaviour_logprobs_are_those_of_the_distribution_that_was_sampled"
ALONE = f"{TEST}::test_a_row_does_not_depend_on_its_batch_order_or_size"
STRING = f"{TEST}::test_a_stop_string_ends_the_row_at_the_token_that_completes_it"
KEEPS = f"{TEST}::test_transform_keeps_the_tokens_that_the_definition_keeps"
CROSSES = f"{TEST}::test_top_p_keeps_the_token_that_crosses_the_line_and_none_after_it"
ENDS = f"{TEST}::test_a_token_that_fell_out_is_drawn_at_neither_end"
GREEDY = f"{TEST}::test_greedy_is_transformers_own_greedy"
AGREE = f"{ROLLOUT}::test_fast_is_lockstep"
RECURRENT = f"{ROLLOUT}::test_recurrent_models_go_through_generate"
OTHERS = f"{ROLLOUT}::test_generate_ends_rows_at_stop_strings_as_the_others_do"

MUTANTS = (
    Mutant(
        "position ids",
        "lockstep: positions count from the padding",
        LOCKSTEP,
        "positions = (mask[:, :longest].cumsum(1) - 1).clamp(min=0)",
        "positions = torch.ones_like(mask[:, :longest]).cumsum(1) - 1",
        (ALONE,),
    ),
    Mutant(
        "position ids",
        "lockstep: a new token has the position of the one before",
        LOCKSTEP,
        "positions[:, -1:] + 1, width + 1",
        "positions[:, -1:], width + 1",
        (GREEDY,),
    ),
    Mutant(
        "padding",
        "lockstep: a row attends to its padding",
        LOCKSTEP,
        "mask[:, :longest] = torch.arange(longest, device=device) >= (longest - lengths)[:, None]",
        "mask[:, :longest] = 1",
        (ALONE,),
    ),
    Mutant(
        "padding",
        "lockstep: a row goes on with its neighbour's mask",
        LOCKSTEP,
        "token_ids[kept], positions[kept], mask[kept]",
        "token_ids[kept], positions[kept], mask[: len(kept)]",
        (ALONE,),
    ),
    Mutant(
        "eos",
        "lockstep: a stop at the limit counts as a cut",
        LOCKSTEP,
        "row.stopped = action in request.stop_token_ids",
        "row.stopped = action in request.stop_token_ids and len(row.token_ids) < row.limit",
        (AGREE,),
    ),
    Mutant(
        "seed",
        "lockstep: a batch shares one seed",
        LOCKSTEP,
        "request.seeds[i])",
        "request.seeds[0])",
        (ALONE,),
    ),
    Mutant(
        "stop string",
        "lockstep: a stop string at the limit is not looked for",
        LOCKSTEP,
        "due = row.finished or len(row.token_ids) % STOP_STRING_EVERY == 0",
        "due = len(row.token_ids) % STOP_STRING_EVERY == 0",
        (AGREE,),
    ),
    Mutant(
        "stop string",
        "lockstep: a row that a stop string ended counts as cut",
        LOCKSTEP,
        "row.logprobs[cut:]\n                    row.stopped = True",
        "row.logprobs[cut:]\n                    row.limit = cut",
        (AGREE,),
    ),
    Mutant(
        "cache",
        "lockstep: keys stay with the rows that left",
        "rollout/cache.py",
        "self.key_buffer[indices], self.value_buffer[indices]",
        "self.key_buffer[: len(indices)], self.value_buffer[indices]",
        (ALONE,),
    ),
    Mutant(
        "eos",
        "generate: the stop token is dropped from what was sampled",
        GENERATE,
        "int(ends[0]) + 1 if len(ends)",
        "int(ends[0]) if len(ends)",
        (RECURRENT,),
    ),
    Mutant(
        "seed",
        "generate: a batch shares one seed",
        GENERATE,
        "uniforms(limit, request.seeds[row])",
        "uniforms(limit, request.seeds[0])",
        (OTHERS,),
    ),
    Mutant(
        "temperature",
        "generate: the model author's penalties bend the policy",
        GENERATE,
        "causal_lm.generation_config, GenerationConfig()",
        "causal_lm.generation_config, causal_lm.generation_config",
        (RECURRENT,),
    ),
    Mutant(
        "temperature",
        "behaviour log-probs are those of the full softmax",
        CHOOSE,
        "return actions, probabilities.gather",
        "return actions, logits.softmax(-1).gather",
        (EXACT,),
    ),
    Mutant(
        "temperature",
        "logits are multiplied by the temperature",
        CHOOSE,
        "logits = logits / sampling.temperature",
        "logits = logits * sampling.temperature",
        (KEEPS,),
    ),
    Mutant(
        "top-k",
        "tokens that tie with the k-th fall out",
        CHOOSE,
        "logits < smallest",
        "logits <= smallest",
        (KEEPS,),
    ),
    Mutant(
        "top-p",
        "the token that crosses the line falls out",
        CHOOSE,
        "(mass.cumsum(-1) - mass) >= sampling.top_p",
        "mass.cumsum(-1) >= sampling.top_p",
        (CROSSES,),
    ),
    Mutant(
        "top-p",
        "a token beyond an exact line stays",
        CHOOSE,
        "(mass.cumsum(-1) - mass) >= sampling.top_p",
        "(mass.cumsum(-1) - mass) > sampling.top_p",
        (CROSSES,),
    ),
    Mutant(
        "top-p",
        "what falls out is named in sorted order",
        CHOOSE,
        "excluded.scatter(-1, indices, excluded)",
        "excluded",
        (KEEPS,),
    ),
    Mutant(
        "top-p",
        "masses are not renormalised after top-k",
        CHOOSE,
        "mass = ordered.softmax(-1)",
        "mass = ordered.exp()",
        (KEEPS,),
    ),
    Mutant(
        "inversion",
        "a draw of 0 takes a token that fell out",
        CHOOSE,
        "(cumulative <= target[:, None])",
        "(cumulative < target[:, None])",
        (ENDS,),
    ),
    # A draw that is not scaled by the realised total is equivalent: `_locate` never answers with an entry
    # without mass, and below that the two differ by rounding alone.
    Mutant(
        "inversion",
        "a draw in a block begins at its first token",
        CHOOSE,
        "(target[:, None] - before)",
        "(0 * target[:, None] + 0 * before)",
        (f"{TEST}::test_choose_inverts_the_cumulative_distribution",),
    ),
    Mutant(
        "stop string",
        "tokens behind a stop string stay",
        STOPS,
        "low, high = 1, len(token_ids)",
        "low = high = len(token_ids)",
        (STRING,),
    ),
    Mutant(
        "stop string",
        "the token that completes a stop string is cut too",
        STOPS,
        "return low",
        "return low - 1",
        (STRING,),
    ),
)
