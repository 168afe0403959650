"""Rows of training without padding, texts of evaluation in trees, and shares of several ranks."""

from tests.mutants.mutant import Mutant

PACKING, DECODER, TREES, RANKS = (
    "packed_forward/packing.py",
    "packed_forward/decoder.py",
    "evaluate/trees.py",
    "ranks.py",
)
TRUNK, SCORING = "core/test_trunk.py", "evaluate/test_scoring.py"
EQUAL = f"{TRUNK}::test_hidden_at_equals_transformers_in_value_and_in_every_gradient"
ONCE = f"{TRUNK}::test_a_packing_holds_each_prefix_once_and_finds_every_token"
TREE = f"{SCORING}::test_every_model_that_reads_trees_scores_as_one_text_at_a_time"
SEES = f"{SCORING}::test_a_text_sees_itself_and_nothing_else"
TWO = "core/test_ranks.py::test_gradient_does_not_depend_on_the_number_of_ranks"

MUTANTS = (
    Mutant(
        "packing",
        "a token that stands alike below another prefix is shared",
        PACKING,
        "np.logical_or.accumulate(filled[1:] != filled[:-1], axis=1)",
        "filled[1:] != filled[:-1]",
        (
            f"{TRUNK}::test_no_row_sees_another",
            ONCE,
        ),
    ),
    Mutant(
        "packing",
        "positions run on from row to row",
        PACKING,
        "depth=tensor(np.broadcast_to(columns, new.shape)[new])",
        "depth=tensor(np.arange(int(new.sum())))",
        (EQUAL,),
    ),
    Mutant(
        "packing",
        "states are sought in the order that was given",
        PACKING,
        "places[at[row.cpu().numpy()], ",
        "places[row.cpu().numpy(), ",
        (ONCE,),
    ),
    Mutant(
        "packing",
        "a short row of a group is padded with another row's place",
        PACKING,
        "last[:, None])",
        "last.max())",
        (ONCE,),
    ),
    Mutant(
        "packing",
        "a token sees what follows",
        DECODER,
        "is_causal=True",
        "is_causal=False",
        (f"{TRUNK}::test_a_later_token_changes_no_earlier_state",),
    ),
    Mutant(
        "packing",
        "rows of one length see their neighbours",
        DECODER,
        "outputs.append(read.transpose(1, 2)",
        "outputs.append(read.roll(1, 0).transpose(1, 2)",
        (EQUAL,),
    ),
    Mutant(
        "packing",
        "a shared prefix learns from the first of its rows alone",
        DECODER,
        "x.index_select(0, group.flatten()).unflatten",
        "torch.where(\n"
        "                torch.isin(torch.arange(group.numel()), packing.slots)[:, None, None],\n"
        "                x.index_select(0, group.flatten()),\n"
        "                x.detach().index_select(0, group.flatten()),\n"
        "            ).unflatten",
        (EQUAL,),
    ),
    Mutant(
        "packing",
        "the last layer reads the first places and not the states'",
        DECODER,
        "packing.slots[packing.states] if last",
        "packing.slots[: len(packing.states)] if last",
        (EQUAL,),
    ),
    Mutant(
        "selection",
        "micro-batches leave rows out",
        "gradient.py",
        "order = sorted(\n        range(len(trajectories)),",
        "order = sorted(\n        range(len(trajectories) // 2, len(trajectories)),",
        ("core/test_gradient.py::test_microbatches_hold_every_row_once_and_respect_the_budget",),
    ),
    Mutant(
        "token tree",
        "a branch ends one token late",
        TREES,
        "end[node] = length",
        "end[node] = length + 1",
        (SEES,),
    ),
    Mutant(
        "token tree",
        "the last branch ends one token early",
        TREES,
        "end[node] = len(ids)",
        "end[node] = len(ids) - 1",
        (SEES,),
    ),
    Mutant(
        "token tree",
        "the first token of a branch stays open",
        TREES,
        "for node in path[common:]:",
        "for node in path[common + 1 :]:",
        (SEES,),
    ),
    Mutant(
        "token tree",
        "positions run on from text to text",
        TREES,
        "depth += range(common, len(text))",
        "depth += range(length, length + len(text) - common)",
        (TREE,),
    ),
    Mutant(
        "token tree",
        "a text shares one token more than is alike",
        TREES,
        "        if a != b:\n            break\n        count += 1",
        "        count += 1\n        if a != b:\n            break",
        (TREE,),
    ),
    Mutant(
        "token tree",
        "a token sees the branch beside it",
        "policy/forward.py",
        "(place[:, None] < end[:, None, :])",
        "(place[:, None] <= end[:, None, :])",
        (TREE,),
    ),
    Mutant(
        "token tree",
        "a forest of chains is read as one chain",
        TREES,
        "int(self.depth[-1]) == len(self.depth) - 1",
        "int(self.depth[-1]) >= 0",
        (TREE,),
    ),
    Mutant(
        "ranks",
        "each rank divides by its own count",
        RANKS,
        "dist.all_reduce(total)",
        "total.add_(0)",
        (TWO,),
    ),
    Mutant(
        "ranks",
        "each rank keeps its own gradient",
        RANKS,
        "dist.all_reduce(parameter.grad)",
        "parameter.grad.add_(0)",
        (TWO,),
    ),
    Mutant(
        "ranks",
        "gradients are averaged and not summed",
        RANKS,
        "dist.all_reduce(parameter.grad)",
        "dist.all_reduce(parameter.grad.div_(dist.get_world_size()))",
        (TWO,),
    ),
)
