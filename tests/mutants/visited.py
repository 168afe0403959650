"""Probes at every state: which state, which direction, which error."""

from tests.mutants.mutant import Mutant

HOME, CLUSTERS, TEST = "probes/per_state.py", "probes/clusters.py", "core/test_per_state.py"
EVERY = f"{TEST}::test_every_number_is_that_of_the_whole_distribution"
COVERS = f"{TEST}::test_a_clustered_interval_covers_and_a_naive_one_would_not"
PAIRED = f"{TEST}::test_a_difference_on_shared_prompts_is_paired"

MUTANTS = (
    Mutant(
        "summing up",
        "equal cells have the palest colour of a scale",
        "report/figures/charts.py",
        "lambda value: MIDDLE if value > 0 else 0)",
        "lambda value: 0)",
        ("report/test_plates.py::test_one_value_is_no_scale",),
    ),
    Mutant(
        "gradient geometry",
        "the noise of a block is part of its product with itself",
        "probes/interference.py",
        "return (products.sum(axis=(1, 3)) - same) / (blocks * (blocks - 1))",
        "return products.mean(axis=(1, 3))",
        (
            "core/test_probes_samples.py::test_squared_norms_and_products_are_without_the_noise_of_their_blocks",
        ),
    ),
    Mutant(
        "gradient geometry",
        "a policy is taught by its own samples",
        "probing/catalogue.py",
        "or not same_fingerprint(asked.about[sample].fingerprint, mine)",
        "or mine",
        (
            "probing/test_probe_jobs.py::test_gradients_are_of_the_arms_own_terms_and_of_what_others_wrote",
        ),
    ),
    Mutant(
        "gradient geometry",
        "an arm's own terms are left out",
        "probing/context.py",
        "updates={} if scene.update is None else {scene.name: scene.update},",
        "updates={},",
        (
            "probing/test_probe_jobs.py::test_gradients_are_of_the_arms_own_terms_and_of_what_others_wrote",
        ),
    ),
    Mutant(
        "summing up",
        "hardly visited counts percentiles below 0.05",
        "probes/reachability.py",
        "np.clip((LOW * (count + 1) - less) / (ties + 1), 0.0, 1.0)",
        "less + 0.5 * ties < LOW * count",
        (f"{TEST}::test_the_lowest_ranks_of_states_of_one_law_are_five_in_a_hundred_exactly",),
    ),
    Mutant(
        "uncertainty",
        "the interval of a ratio falls below 0",
        CLUSTERS,
        "if unit in RATIOS and self.value > 0:",
        "if unit not in RATIOS and self.value < 0:",
        (f"{TEST}::test_a_quotient_has_the_error_of_the_delta_method",),
    ),
    Mutant(
        "shift",
        "per state: numbers are read beside the state",
        HOME,
        "states.row, states.column - 1)",
        "states.row, states.column)",
        (EVERY,),
    ),
    Mutant(
        "shift",
        "per state: depth counts the prompt",
        HOME,
        "depth=column[order] - starts[row]",
        "depth=column[order] - 0 * starts[row]",
        (EVERY,),
    ),
    Mutant(
        "selection",
        "per state: numbers come in the order of reading",
        HOME,
        "order = np.lexsort((column, row))",
        "order = np.arange(len(row))",
        (EVERY,),
    ),
    Mutant(
        "mask",
        "per state: prompts are states too",
        "trajectory.py",
        "weights[: self.prompt_tokens] = 0.0",
        "weights[:1] = 0.0",
        (f"{TEST}::test_unsupervised_states_count_and_prompts_do_not",),
    ),
    Mutant(
        "direction",
        "per state: the two divergences are swapped",
        HOME,
        '"kl_policy_reference": kl(own, other), "kl_reference_policy": kl(other, own)',
        '"kl_policy_reference": kl(other, own), "kl_reference_policy": kl(own, other)',
        (EVERY,),
    ),
    Mutant(
        "clusters",
        "states of one prompt count as independent",
        CLUSTERS,
        "np.unique(np.asarray(clusters, dtype=str), return_inverse=True)",
        "np.unique([str(i) for i in range(len(clusters))], return_inverse=True)",
        (COVERS,),
    ),
    Mutant(
        "clusters",
        "few clusters count as many",
        CLUSTERS,
        "clusters / (clusters - 1) * squares",
        "squares",
        (
            f"{TEST}::test_a_clustered_error_by_hand",
            COVERS,
        ),
    ),
    Mutant(
        "clusters",
        "equal clusters make certain",
        CLUSTERS,
        "if clusters < 2 or squares <= (1e-12 * self.value) ** 2:",
        "if clusters < 2:",
        (f"{TEST}::test_equal_clusters_have_no_known_error",),
    ),
    Mutant(
        "clusters",
        "a difference adds up the errors of shared prompts",
        CLUSTERS,
        "_joined(self, other, 1.0, -1.0)",
        "_joined(self, other, 1.0, 1.0)",
        (PAIRED,),
    ),
    Mutant(
        "clusters",
        "the divisor of a quotient has no error",
        CLUSTERS,
        "-ratio / other.value",
        "-0.0 * ratio",
        (f"{TEST}::test_a_quotient_has_the_error_of_the_delta_method",),
    ),
    Mutant(
        "fault as score",
        "nan at a state is averaged away",
        CLUSTERS,
        "if not np.isfinite(values[kept]).all():",
        "if not len(values):",
        (f"{TEST}::test_values_that_are_not_finite_are_a_fault",),
    ),
    Mutant(
        "estimator",
        "pass@k is the plug-in",
        "probes/behaviour.py",
        "comb(n - int(c), k) / comb(n, k)",
        "(1 - int(c) / n) ** k",
        ("core/test_probes_samples.py::test_pass_at_k_is_unbiased_where_the_plug_in_is_not",),
    ),
)
