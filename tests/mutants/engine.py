"""The fast engine: positions, masks, places that change shards, adapters."""

from tests.mutants.mutant import Mutant

BATCH, FORWARD, LLAMA = "rollout/batch.py", "rollout/forward.py", "rollout/llama.py"
TEST, SAMPLING = "core/test_rollout.py", "core/test_sampling.py"
AGREE = f"{TEST}::test_fast_is_lockstep"
STATES = f"{TEST}::test_prefill_and_steps_give_the_hidden_states_of_transformers"
PIECES = f"{TEST}::test_long_prefixes_are_read_in_pieces"
ALONE = f"{SAMPLING}::test_a_row_does_not_depend_on_its_batch_order_or_size"
STRING = f"{SAMPLING}::test_a_stop_string_ends_the_row_at_the_token_that_completes_it"

MUTANTS = (
    Mutant(
        "position ids",
        "a new token has the position of the one before",
        FORWARD,
        "decoder.rotary[lengths][:, None]",
        "decoder.rotary[lengths - 1][:, None]",
        (
            STATES,
            f"{SAMPLING}::test_greedy_is_transformers_own_greedy",
        ),
    ),
    Mutant(
        "position ids",
        "each piece of a long prefix begins at position 0",
        FORWARD,
        "decoder.rotary[start:stop]",
        "decoder.rotary[:width]",
        (PIECES,),
    ),
    Mutant(
        "padding",
        "a row attends to what its place held before",
        FORWARD,
        "_mask(lengths + 1, capacity, x.dtype)",
        "_mask(lengths * 0 + capacity, capacity, x.dtype)",
        (ALONE,),
    ),
    Mutant(
        "padding",
        "a new token does not see itself",
        FORWARD,
        "_mask(lengths + 1, capacity, x.dtype)",
        "_mask(lengths, capacity, x.dtype)",
        (STATES,),
    ),
    Mutant(
        "padding",
        "a short prefix is read at its padding",
        FORWARD,
        "last = ending * width + ends[ending] - 1",
        "last = ending * width + width - 1",
        (ALONE,),
    ),
    Mutant(
        "padding",
        "a prefix sees what is to its right",
        FORWARD,
        "is_causal=causal is None",
        "is_causal=False",
        (STATES,),
    ),
    Mutant(
        "eos",
        "the stop token is dropped from what was sampled",
        BATCH,
        "done = Completion(token_ids[:cut], logprobs, ",
        "cut = (cut or count) - stop\n            done = Completion(token_ids[:cut], logprobs[:cut], ",
        (f"{SAMPLING}::test_the_stop_token_is_an_action_with_its_owner_weight_and_logprob",),
    ),
    Mutant(
        "eos",
        "a stop at the limit counts as a cut",
        BATCH,
        "stop or cut is not None)",
        "(stop and count < int(self.limits[place])) or cut is not None)",
        (f"{SAMPLING}::test_a_stop_token_at_the_limit_is_a_stop_and_no_cut",),
    ),
    Mutant(
        "seed",
        "a batch shares one seed",
        BATCH,
        "self.request.seeds[row]",
        "self.request.seeds[0]",
        (ALONE,),
    ),
    Mutant(
        "seed",
        "a row that moves goes on with its neighbour's draws",
        BATCH,
        "            self.draws,\n            self.read,\n",
        "            self.read,\n",
        (AGREE,),
    ),
    Mutant(
        "cache",
        "keys stay with the rows that left",
        BATCH,
        "self.slots.copy(of, to, ",
        "self.slots.copy(of, of, ",
        (AGREE,),
    ),
    Mutant(
        "cache",
        "rows with an equal prefix begin from empty keys",
        BATCH,
        "self.slots.copy(of, at, ",
        "self.slots.copy(of, of, ",
        (AGREE,),
    ),
    Mutant(
        "cache",
        "rows with an equal prefix draw their first token from nothing",
        BATCH,
        "self.read[at] = self.read[of]",
        "self.read[at] = self.read[of] * 0",
        (AGREE,),
    ),
    Mutant(
        "stop string",
        "a stop string at the limit is not looked for",
        BATCH,
        "cut = first_stop(token_ids.tolist(), self.request)",
        "cut = None if ended[place] else first_stop(token_ids.tolist(), self.request)",
        (STRING,),
    ),
    Mutant(
        "stop string",
        "a row that a stop string ended counts as cut",
        BATCH,
        "stop or cut is not None)",
        "stop)",
        (STRING,),
    ),
    Mutant(
        "adapter",
        "the engine samples from the base",
        LLAMA,
        "torch.addmm(weight, up, down)",
        "torch.addmm(weight, 0 * up, down)",
        (f"{TEST}::test_an_adapter_is_multiplied_out_as_it_is_now",),
    ),
    Mutant(
        "adapter",
        "a model with a window is read as if it had none",
        LLAMA,
        '_check(kinds == {"full_attention"} and not windowed, ',
        "_check(True, ",
        (f"{TEST}::test_what_the_fast_engine_does_not_know_it_leaves_alone",),
    ),
    Mutant(
        "adapter",
        "a module with hooks is read as if it had none",
        LLAMA,
        "_check(not touched, ",
        "_check(True, ",
        (f"{TEST}::test_a_module_that_was_changed_is_left_alone",),
    ),
)
