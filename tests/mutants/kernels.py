"""Gradients that were derived by hand: losses of the logits, the parts of a layer, the head."""

from tests.mutants.mutant import Mutant

FUSED, KERNELS, HEAD = "objectives/fused.py", "packed_forward/kernels.py", "packed_forward/head.py"
LOSSES, TRUNK = "core/test_fused.py", "core/test_trunk.py"
LOGPROBS = f"{LOSSES}::test_logprobs_equal_the_plain_formula_in_value_and_gradient"
EQUAL = f"{LOSSES}::test_divergences_equal_the_plain_formula_in_value_and_gradient"
PARTS = f"{TRUNK}::test_the_kernels_gradients_are_those_of_their_values"
ADDS = f"{TRUNK}::test_a_head_adds_its_gradient_and_a_frozen_one_has_none"
JSD = "core/test_objectives.py::test_jsd_by_hand_at_beta_0_a_quarter_a_half_and_1"

MUTANTS = (
    Mutant(
        "hand gradient",
        "a log-prob's gradient pushes all tokens up",
        FUSED,
        "(probs * -step)",
        "(probs * step)",
        (LOGPROBS,),
    ),
    Mutant(
        "hand gradient",
        "a log-prob's gradient leaves the temperature out",
        FUSED,
        "grad if ctx.temperature is None else grad / ctx.temperature",
        "grad",
        (LOGPROBS,),
    ),
    Mutant(
        "hand gradient",
        "kl(S||T): the gradient lacks its - kl",
        FUSED,
        "gap.sub_(values[:, None]).mul_(probs)",
        "gap.mul_(probs)",
        (EQUAL,),
    ),
    Mutant(
        "hand gradient",
        "kl(T||S): the gradient has the other sign",
        FUSED,
        "grad = student.exp_().sub_(teacher)",
        "grad = teacher.sub_(student.exp_())",
        (EQUAL,),
    ),
    Mutant(
        "hand gradient",
        "JSD: the gradient lacks its - kl(p||m)",
        FUSED,
        "gap.sub_(own[:, None]).mul_(probs)",
        "gap.mul_(probs)",
        (EQUAL,),
    ),
    Mutant(
        "hand gradient",
        "JSD: the gradient lacks its 1 - beta",
        FUSED,
        ".mul_(probs).mul_(1 - beta)",
        ".mul_(probs)",
        (EQUAL,),
    ),
    Mutant(
        "hand gradient",
        "a state's weight does not reach its gradient",
        FUSED,
        "ctx.saved_tensors[0] * grad[:, None]",
        "ctx.saved_tensors[0] + 0 * grad[:, None]",
        (EQUAL,),
    ),
    Mutant(
        "hand gradient",
        "RMS norm: the radial part is added",
        KERNELS,
        "addcmul_(x, shrink, value=-1)",
        "addcmul_(x, shrink, value=1)",
        (PARTS,),
    ),
    Mutant(
        "hand gradient", "rotation: back is forward", KERNELS, "1 if back else -1", "-1", (PARTS,)
    ),
    Mutant(
        "hand gradient",
        "SiLU: the gate's gradient lacks `up`",
        KERNELS,
        "silu_backward(grad * up, gate)",
        "silu_backward(grad, gate)",
        (PARTS,),
    ),
    Mutant(
        "hand gradient",
        "only the last projection of an input has a gradient",
        KERNELS,
        "dx.addmm_(grad, cast)",
        "grad @ cast",
        (PARTS,),
    ),
    Mutant(
        "head gradient",
        "a chunk adds the head's gradient twice",
        HEAD,
        "weight.grad.addmm_(grad.T, hidden)",
        "weight.grad.addmm_(grad.T, hidden, alpha=2)",
        (ADDS,),
    ),
    Mutant(
        "head gradient",
        "a chunk never adds the head's gradient",
        HEAD,
        "weight.grad.addmm_(grad.T, hidden)",
        "weight.grad.addmm_(grad.T, hidden, alpha=0)",
        (ADDS,),
    ),
    Mutant(
        "head gradient",
        "every chunk begins the head's gradient anew",
        HEAD,
        "if weight.grad is None:",
        "if len(hidden):",
        (ADDS,),
    ),
    Mutant(
        "head gradient",
        "a frozen head has a gradient",
        HEAD,
        "if weight.requires_grad:",
        "if len(hidden):",
        (ADDS,),
    ),
    Mutant(
        "head gradient",
        "in bf16 the head learns nothing",
        HEAD,
        "weight.grad.add_(grad.T @ hidden)",
        "weight.grad.add_(0 * (grad.T @ hidden))",
        (f"{TRUNK}::test_a_head_in_bf16_adds_the_gradient_of_the_rounded_product",),
    ),
    Mutant(
        "direction",
        "a fused JSD takes beta from the other side",
        FUSED,
        "_Divergence.apply(logits.to(dtype), teacher.to(dtype), beta)",
        "_Divergence.apply(logits.to(dtype), teacher.to(dtype), 1 - beta)",
        (JSD,),
    ),
    Mutant(
        "direction",
        "fused: beta weighs the student in the middle of a JSD",
        FUSED,
        "torch.logaddexp(teacher + math.log(beta), student + math.log(1 - beta))",
        "torch.logaddexp(student + math.log(beta), teacher + math.log(1 - beta))",
        (JSD,),
    ),
    Mutant(
        "direction",
        "fused: beta weighs the student's half of a JSD",
        FUSED,
        "beta * told + (1 - beta) * own",
        "beta * own + (1 - beta) * told",
        (JSD,),
    ),
    Mutant(
        "fault as score",
        "the kernel is given a probability of exactly 0",
        "objectives/divergence.py",
        "and not bool((logits.detach().amin(-1) == -math.inf).any())",
        "and width",
        (f"{LOSSES}::test_a_probability_of_exactly_0_takes_the_plain_way",),
    ),
    Mutant(
        "memory",
        "the gradient of a divergence is a second tensor of logits",
        FUSED,
        "out=teacher)\n            probs",
        "out=teacher).repeat(2, 1)[: len(student)]\n            probs",
        (f"{LOSSES}::test_no_tensor_is_larger_than_a_chunk_of_logits",),
    ),
)
