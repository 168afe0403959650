"""One thread per core: what every thread's share must add up to."""

from tests.mutants.mutant import Mutant

TEST = "core/test_threads.py"
SAME = f"{TEST}::test_gradient_and_loss_do_not_depend_on_the_number_of_threads"

MUTANTS = (
    Mutant(
        "denominator",
        "threads: gradients of the other threads are dropped",
        "gradient.py",
        "    add_gradients(student, shards)",
        "    add_gradients(student, shards[:1])",
        (SAME,),
    ),
    Mutant(
        "denominator",
        "threads: the last thread's gradient replaces the others'",
        "policy/shards.py",
        "mine.grad = grad if mine.grad is None else mine.grad.add_(grad)",
        "mine.grad = grad",
        (SAME,),
    ),
    Mutant(
        "accounts",
        "threads: what the others read is not counted",
        "policy/shards.py",
        "student.tokens_read += shard.policy.tokens_read",
        "pass",
        (f"{TEST}::test_tokens_are_counted_as_by_one_thread",),
    ),
    Mutant(
        "accounts",
        "threads: what log-probs read is not counted",
        "gradient.py",
        "student.tokens_read += sum(shard.policy.tokens_read for shard in shards)",
        "pass",
        (f"{TEST}::test_tokens_are_counted_as_by_one_thread",),
    ),
    Mutant(
        "role",
        "threads: a twin has weights of its own",
        "policy/policy.py",
        "id(p): nn.Parameter(p.detach(), requires_grad=p.requires_grad)",
        "id(p): nn.Parameter(p.detach().clone(), requires_grad=p.requires_grad)",
        (f"{TEST}::test_gradients_add_up_and_the_weights_stay_one",),
    ),
    Mutant(
        "group",
        "threads: a group is split row by row",
        "policy/shards.py",
        "groups.setdefault(trajectory.group_id, []).append(i)",
        "groups.setdefault(str(i), []).append(i)",
        (f"{TEST}::test_groups_stay_together_and_shards_are_even",),
    ),
    Mutant(
        "order",
        "threads: a shard's load is never added up",
        "cpu_shards.py",
        "totals[lightest] += sum(loads[i] for i in rows)",
        "totals[lightest] += 0",
        (f"{TEST}::test_groups_stay_together_and_shards_are_even",),
    ),
)
