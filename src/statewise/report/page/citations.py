"""The papers behind the methods and probes that this package has, as BibTeX, and which study uses which.

`needs` names what one stream of an arm must hold: the kinds on its axes, and `key=value` for a setting
that makes the difference; `null=KIND` and `probe=NAME` stand for a null and a probe of the study. An entry
without `needs` belongs to every study.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Citation:
    """One work: what it is cited for, its BibTeX, and what calls for it."""

    key: str
    what: str
    authors: str
    title: str
    year: int
    arxiv: str = ""
    extra: tuple[tuple[str, str], ...] = ()
    needs: tuple[frozenset[str], ...] = ()

    def bibtex(self) -> str:
        """The entry."""
        title = f"{{{self.title}}}" if self.title else ""
        fields = {"author": self.authors, "title": title, "year": str(self.year)}
        if self.arxiv:
            fields |= {"eprint": self.arxiv, "archivePrefix": "arXiv"}
        fields |= dict(self.extra)
        lines = "".join(f"  {name:<13} = {{{value}}},\n" for name, value in fields.items() if value)
        return f"@misc{{{self.key},\n{lines}}}"


def _any(*needs: str) -> tuple[frozenset[str], ...]:
    """Alternatives, each a list of what must be there together."""
    return tuple(frozenset(need.split()) for need in needs)


CITATIONS = (
    Citation(
        "nie2026states",
        "the claims, continuation and one-step distillation",
        "Dong Nie",
        "Post-Training is About States, Not Tokens: A State Distribution View of SFT, RL, and On-Policy Distillation",
        2026,
        "2605.22731",
    ),
    Citation(
        "gao2024harness",
        "the evaluation harness",
        "Leo Gao and Jonathan Tow and Baber Abbasi and Stella Biderman and Sid Black and others",
        "The Language Model Evaluation Harness",
        2024,
        extra=(("publisher", "Zenodo"), ("doi", "10.5281/zenodo.12608602")),
    ),
    Citation(
        "wu2025dft",
        "DFT",
        "Yongliang Wu and others",
        "On the Generalization of SFT: A Reinforcement Learning Perspective with Reward Rectification",
        2025,
        "2508.05629",
        needs=_any("dft"),
    ),
    Citation(
        "qin2025iwsft",
        "iw-SFT",
        "Chongli Qin and Jost Tobias Springenberg",
        "Supervised Fine Tuning on Curated Data is Reinforcement Learning (and can be improved)",
        2025,
        "2507.12856",
        needs=_any("importance_weighted"),
    ),
    Citation(
        "yuan2023rft",
        "rejection fine-tuning",
        "Zheng Yuan and others",
        "Scaling Relationship on Learning Mathematical Reasoning with Large Language Models",
        2023,
        "2308.01825",
        needs=_any("filtered teacher own_actions"),
    ),
    Citation(
        "zelikman2022star",
        "iterative fine-tuning",
        "Eric Zelikman and Yuhuai Wu and Jesse Mu and Noah D. Goodman",
        "STaR: Bootstrapping Reasoning With Reasoning",
        2022,
        "2203.14465",
        needs=_any("filtered learner own_actions"),
    ),
    Citation(
        "agarwal2024gkd",
        "GKD and its divergence",
        "Rishabh Agarwal and Nino Vieillard and Yongchao Zhou and Piotr Stanczyk and Sabela Ramos and Matthieu "
        "Geist and Olivier Bachem",
        "On-Policy Distillation of Language Models: Learning from Self-Generated Mistakes",
        2024,
        "2306.13649",
        needs=_any("jsd", "mixture learner dataset teacher_distribution"),
    ),
    Citation(
        "jin2026entropy",
        "entropy-gated distillation",
        "Woogyeol Jin and Taywon Min and Yongjin Yang and Swanand Ravindra Kadhe and Yi Zhou and Dennis Wei and "
        "Nathalie Baracaldo and Kimin Lee",
        "Entropy-Aware On-Policy Distillation of Language Models",
        2026,
        "2603.07079",
        needs=_any("entropy_gated"),
    ),
    Citation(
        "shenfeld2026sdft",
        "self-distillation",
        'Idan Shenfeld and Mehul Damani and Jonas H\\"ubotter and Pulkit Agrawal',
        "Self-Distillation Enables Continual Learning",
        2026,
        "2601.19897",
        needs=_any("teacher_distribution context"),
    ),
    Citation(
        "zhao2026opsd",
        "self-distillation",
        "Siyan Zhao and others",
        "Self-Distilled Reasoner: On-Policy Self-Distillation for Large Language Models",
        2026,
        "2601.18734",
        needs=_any("teacher_distribution context"),
    ),
    Citation(
        "kim2016sequence",
        "sequence-level distillation",
        "Yoon Kim and Alexander M. Rush",
        "Sequence-Level Knowledge Distillation",
        2016,
        "1606.07947",
        needs=_any("source=teacher own_actions"),
    ),
    Citation(
        "hinton2015distilling",
        "offline distillation",
        "Geoffrey Hinton and Oriol Vinyals and Jeff Dean",
        "Distilling the Knowledge in a Neural Network",
        2015,
        "1503.02531",
        needs=_any("source=teacher teacher_distribution"),
    ),
    Citation(
        "plyusov2026trb",
        "blended behaviour",
        "Daniil Plyusov and Alexey Gorbatovski and Alexey Malakhov and Nikita Balagansky and Boris Shaposhnikov "
        "and Daria Korotyshova and Daniil Gavrilov",
        "Trust-Region Behavior Blending for On-Policy Distillation",
        2026,
        "2605.31159",
        needs=_any("blended"),
    ),
    Citation(
        "shao2024grpo",
        "GRPO",
        "Zhihong Shao and Peiyi Wang and Qihao Zhu and Runxin Xu and Junxiao Song and others",
        "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models",
        2024,
        "2402.03300",
        needs=_any("group_advantage"),
    ),
    Citation(
        "liu2025drgrpo",
        "Dr.GRPO",
        "Zichen Liu and Changyu Chen and Wenjun Li and Penghui Qi and Tianyu Pang and others",
        "Understanding R1-Zero-Like Training: A Critical Perspective",
        2025,
        "2503.20783",
        needs=_any("group_advantage scale=none"),
    ),
    Citation(
        "yu2025dapo",
        "clip-higher",
        "Qiying Yu and others",
        "DAPO: An Open-Source LLM Reinforcement Learning System at Scale",
        2025,
        "2503.14476",
        needs=_any("clipped_surrogate clip-higher"),
    ),
    Citation(
        "zheng2025gspo",
        "GSPO",
        "Chujie Zheng and others",
        "Group Sequence Policy Optimization",
        2025,
        "2507.18071",
        needs=_any("sequence_ratio"),
    ),
    Citation(
        "minimax2025m1",
        "CISPO",
        "{MiniMax}",
        "MiniMax-M1: Scaling Test-Time Compute Efficiently with Lightning Attention",
        2025,
        "2506.13585",
        needs=_any("cispo"),
    ),
    Citation(
        "ahmadian2024rloo",
        "RLOO",
        "Arash Ahmadian and Chris Cremer and Matthias Gall\\'e and Marzieh Fadaee and Julia Kreutzer and Olivier "
        'Pietquin and Ahmet \\"Ust\\"un and Sara Hooker',
        "Back to Basics: Revisiting REINFORCE Style Optimization for Learning from Human Feedback in LLMs",
        2024,
        "2402.14740",
        needs=_any("leave_one_out"),
    ),
    Citation(
        "schulman2017ppo",
        "the clipped surrogate",
        "John Schulman and Filip Wolski and Prafulla Dhariwal and Alec Radford and Oleg Klimov",
        "Proximal Policy Optimization Algorithms",
        2017,
        "1707.06347",
        needs=_any("clipped_surrogate"),
    ),
    Citation(
        "williams1992reinforce",
        "REINFORCE",
        "Ronald J. Williams",
        "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning",
        1992,
        extra=(("journal", "Machine Learning"), ("volume", "8"), ("pages", "229--256")),
        needs=_any("reinforce"),
    ),
    Citation(
        "arxiv2608.31046",
        "the constant negative advantage",
        "",  # we have read its figures, not its title page: an entry that says less than it could
        "",
        2026,
        "2608.31046",
        needs=_any("constant_advantage"),
    ),
    Citation(
        "chang2023rlgf",
        "resets to prefixes",
        "Jonathan D. Chang and Kiant\\'e Brantley and Rajkumar Ramamurthy and Dipendra Misra and Wen Sun",
        "Learning to Generate Better Than Your LLM",
        2023,
        "2306.11816",
        needs=_any("prefix_reset"),
    ),
    Citation(
        "schaul2016replay",
        "replay",
        "Tom Schaul and John Quan and Ioannis Antonoglou and David Silver",
        "Prioritized Experience Replay",
        2016,
        "1511.05952",
        needs=_any("replay"),
    ),
    Citation(
        "hu2021lora",
        "LoRA",
        "Edward J. Hu and Yelong Shen and Phillip Wallis and Zeyuan Allen-Zhu and Yuanzhi Li and Shean Wang and Lu "
        "Wang and Weizhu Chen",
        "LoRA: Low-Rank Adaptation of Large Language Models",
        2021,
        "2106.09685",
        needs=_any("adapter"),
    ),
    Citation(
        "wortsman2022wiseft",
        "interpolation between two policies",
        "Mitchell Wortsman and Gabriel Ilharco and Jong Wook Kim and Mike Li and Simon Kornblith and Rebecca "
        "Roelofs and Raphael Gontijo Lopes and Hannaneh Hajishirzi and Ali Farhadi and Hongseok Namkoong and Ludwig "
        "Schmidt",
        "Robust fine-tuning of zero-shot models",
        2022,
        "2109.01903",
        needs=_any("null=interpolation"),
    ),
    Citation(
        "gretton2012kernel",
        "the kernel two-sample test",
        'Arthur Gretton and Karsten M. Borgwardt and Malte J. Rasch and Bernhard Sch\\"olkopf and Alexander Smola',
        "A Kernel Two-Sample Test",
        2012,
        extra=(
            ("journal", "Journal of Machine Learning Research"),
            ("volume", "13"),
            ("pages", "723--773"),
        ),
        needs=_any("probe=drift"),
    ),
    Citation(
        "lopezpaz2017c2st",
        "the classifier two-sample test",
        "David Lopez-Paz and Maxime Oquab",
        "Revisiting Classifier Two-Sample Tests",
        2017,
        "1610.06545",
        needs=_any("probe=c2st"),
    ),
    Citation(
        "kynkaanniemi2019precision",
        "precision and recall of samples",
        'Tuomas Kynk\\"a\\"anniemi and Tero Karras and Samuli Laine and Jaakko Lehtinen and Timo Aila',
        "Improved Precision and Recall Metric for Assessing Generative Models",
        2019,
        "1904.06991",
        needs=_any("probe=coverage"),
    ),
    Citation(
        "li2016diversity",
        "distinct-n",
        "Jiwei Li and Michel Galley and Chris Brockett and Jianfeng Gao and Bill Dolan",
        "A Diversity-Promoting Objective Function for Neural Conversation Models",
        2016,
        "1510.03055",
        needs=_any("probe=coverage"),
    ),
    Citation(
        "shenfeld2025razor",
        "the forgetting law",
        "Idan Shenfeld and Jyothish Pari and Pulkit Agrawal",
        "RL's Razor: Why Online Reinforcement Learning Forgets Less",
        2025,
        "2509.04259",
        needs=_any("probe=forgetting", "probe=locality"),
    ),
    Citation(
        "amini2025kl",
        "estimating the KL of completions",
        "Afra Amini and Tim Vieira and Ryan Cotterell",
        "Better Estimation of the KL Divergence Between Language Models",
        2025,
        "2504.10637",
        needs=_any("probe=forgetting"),
    ),
    Citation(
        "yu2020surgery",
        "gradient conflict",
        "Tianhe Yu and Saurabh Kumar and Abhishek Gupta and Sergey Levine and Karol Hausman and Chelsea Finn",
        "Gradient Surgery for Multi-Task Learning",
        2020,
        "2001.06782",
        needs=_any("probe=gradients"),
    ),
    Citation(
        "chen2021codex",
        "pass@k",
        "Mark Chen and Jerry Tworek and Heewoo Jun and Qiming Yuan and others",
        "Evaluating Large Language Models Trained on Code",
        2021,
        "2107.03374",
        needs=_any("probe=behaviour"),
    ),
    Citation(
        "mukherjee2025subnetworks",
        "the share of weights that changed",
        "Sagnik Mukherjee and Lifan Yuan and Dilek Hakkani-Tur and Hao Peng",
        "Reinforcement Learning Finetunes Small Subnetworks in Large Language Models",
        2025,
        "2505.11711",
        needs=_any("probe=geometry"),
    ),
    Citation(
        "li2026rethinking",
        "top-k overlap and the decay of supervision",
        "Yaxuan Li and Yuxin Zuo and Bingxiang He and Jinqian Zhang and Chaojun Xiao and Cheng Qian and "
        "Tianyu Yu and Huan-ang Gao and Wenkai Yang and Zhiyuan Liu and Ning Ding",
        "Rethinking On-Policy Distillation of Large Language Models: Phenomenology, Mechanism, and Recipe",
        2026,
        "2604.13016",
        needs=_any("probe=overlap", "probe=fidelity"),
    ),
    Citation(
        "xu2026tip",
        "the mass of a signal by entropy and divergence",
        "Yuanda Xu and Hejian Sang and Zhengze Zhou and Ran He and Zhipeng Wang and Alborz Geramifard",
        "TIP: Token Importance in On-Policy Distillation",
        2026,
        "2604.14084",
        needs=_any("probe=signal_mass"),
    ),
    Citation(
        "arora2022exposure",
        "accumulated exposure error",
        "Kushal Arora and Layla El Asri and Hareesh Bahuleyan and Jackie Chi Kit Cheung",
        "Why Exposure Bias Matters: An Imitation Learning Perspective of Error Accumulation in Language Generation",
        2022,
        "2204.01171",
        needs=_any("probe=exposure"),
    ),
    Citation(
        "ross2014aggrevate",
        "the expert's value at the learner's states",
        "St\\'ephane Ross and J. Andrew Bagnell",
        "Reinforcement and Imitation Learning via Interactive No-Regret Learning",
        2014,
        "1406.5979",
        needs=_any("probe=repair"),
    ),
)


def cited(study: Mapping[str, Any]) -> list[tuple[Citation, tuple[str, ...]]]:
    """The works that a study rests on, each with the arms, nulls and probes that call for it; () = all of it."""
    holdings = {
        str(arm["name"]): [frozenset(h) for h in _holdings(arm)] for arm in study.get("arms") or ()
    }
    for null in study.get("nulls") or ():
        holdings[str(null["name"])] = [frozenset({f"null={null['kind']}"})]
    probing = study.get("probes") or {}
    drift = ["drift"] if study.get("drift") else []
    for probe in dict.fromkeys(
        [*drift, *(probing.get("after") or ()), *(probing.get("during") or ())]
    ):
        holdings[f"probe {probe}"] = [frozenset({f"probe={probe}"})]
    found = []
    for citation in CITATIONS:
        arms = tuple(
            name
            for name, streams in holdings.items()
            if any(need <= stream for need in citation.needs for stream in streams)
        )
        if arms or not citation.needs:
            found.append((citation, arms))
    return found


def _holdings(arm: Mapping[str, Any]) -> Iterator[set[str]]:
    """For each stream of an arm, the kinds and settings in it."""
    shared = {"adapter"} if (arm.get("budget") or {}).get("adapter") else set()
    for stream in arm.get("streams") or ():
        source = stream.get("source")
        kind = source.get("kind") if isinstance(source, Mapping) else source
        found = {f"source={kind}"} | shared
        for part in ("source", "terms"):
            found |= _words(stream.get(part))
        yield found


def _words(value: Any) -> set[str]:
    """Kinds, `key=value` of short settings, and names of what is set at all."""
    if isinstance(value, str):
        return {value}
    if isinstance(value, list | tuple):
        return {word for item in value for word in _words(item)}
    if not isinstance(value, Mapping):
        return set()
    found = {f"{key}={item}" for key, item in value.items() if isinstance(item, str | int | float)}
    found |= {str(key) for key in ("context",) if value.get(key)}
    if value.get("clip_high") and value["clip_high"] != value.get("clip_low"):
        found.add("clip-higher")
    for key, item in value.items():
        if key in ("kind", "source", "sources", "supervision", "objective") or isinstance(
            item, list
        ):
            found |= _words(item)
    return found
