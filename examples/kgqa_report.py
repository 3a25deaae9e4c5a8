"""What `kgqa_results.py` counts, question by question, and the page and picture it makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from kgqa_systems import SYSTEMS, System
from pictures import pyplot

from bert4kexue.methods.kgclue import f1, normalized
from bert4kexue.methods.question_files import LabelledQuestion, Triple

FIRST = "KgCLUE dev, the first questions"
KINDS = ("all", "literal", "not literal")


# --- scores -------------------------------------------------------------------------------------


class Rows(NamedTuple):
    """A system's questions one by one, (questions,) each: exact matches, F1 of the object."""

    subject: np.ndarray
    predicate: np.ndarray
    exact: np.ndarray
    f1: np.ndarray

    @property
    def score(self) -> np.ndarray:
        """The benchmark's, of each question."""
        return (self.exact + self.f1) / 2


def rows(found: Sequence[Triple], gold: Sequence[LabelledQuestion]) -> Rows:
    """What is right, question by question."""
    pairs = [
        ([normalized(p) for p in a], [normalized(p) for p in q.triple])
        for a, q in zip(found, gold, strict=True)
    ]
    equal = np.array([[x == y for x, y in zip(a, b, strict=True)] for a, b in pairs], float)
    return Rows(*equal.T, np.array([f1(a[2], b[2]) for a, b in pairs]))


def kind_masks(gold: Sequence[LabelledQuestion]) -> dict[str, np.ndarray]:
    """Which questions hold their predicate literally."""
    literal = np.array([normalized(q.predicate) in normalized(q.question) for q in gold])
    return {"all": np.ones(len(gold), bool), "literal": literal, "not literal": ~literal}


def difference(a: np.ndarray, b: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """Mean of a - b in points, and its 95 % interval by resampling the questions."""
    rng = np.random.default_rng(seed)
    gaps = 100 * (a - b)
    means = [gaps[rng.integers(len(gaps), size=len(gaps))].mean() for _ in range(2000)]
    return float(gaps.mean()), *map(float, np.percentile(means, [2.5, 97.5]))


# --- the page -----------------------------------------------------------------------------------


def _systems(name: str, found: dict[str, Any]) -> list[System]:
    """What was measured on a set."""
    return [s for s in SYSTEMS if s.name in found and (name == FIRST or not s.ablation)]


def page(
    measured: dict[str, list[LabelledQuestion]],
    found: dict[str, dict[str, Rows]],
    manifest: dict[str, Any],
    seconds: dict[str, float],
    typed: list[str],
    trained: str,
    notes: str,
) -> str:
    """The text of knowledge_qa.md; what was tried is taken over from `notes`."""
    text = [
        "# Questions answered from a knowledge base",
        "",
        "    BERT4KEXUE_DATA=... python examples/kgqa_results.py runs/kgqa --write docs/results",
        "",
        "`examples/kgqa_sets.py` says how the knowledge base is made:",
        f"{manifest['keys']:,} facts of the measured questions, of wrong predicates",
        "beside the right ones, of namesakes and of 200,000 other subjects. A namesake has nine",
        "predicates of its own and seldom the one that is asked for, so that the meaning mostly",
        "follows from the predicate. The model is the shipped RoFormer, trained on with",
        "`bert4kexue kgqa train` on KgCLUE's train and nine tenths of NLPCC's questions, each with",
        "nine copies whose subject is swapped, in two runs, the second going on from the first",
        f"({trained}).",
        "Beams are 3 wide. EM and F1 are of the object, Score is their mean. *Literal* are",
        "questions in which the gold predicate stands as it is written in the base.",
        "",
        "![Score by system and kind of question](knowledge_qa.png)",
        "",
    ]
    for name, gold in measured.items():
        masks = kind_masks(gold)
        counts = ", ".join(f"{kind} {int(mask.sum())}" for kind, mask in masks.items())
        text += [f"## {name}: {counts}", ""]
        text += ["| system | EM S | EM P | EM | F1 | Score | literal | not literal |"]
        text += ["|---|---|---|---|---|---|---|---|"]
        for system in _systems(name, found):
            r = found[system.name][name]
            figures = [r.subject, r.predicate, r.exact, r.f1, r.score]
            cells = [f"{100 * x.mean():.1f}" for x in figures]
            cells += [f"{100 * r.score[masks[k]].mean():.1f}" for k in KINDS[1:]]
            text.append(f"| {system.title} | " + " | ".join(cells) + " |")
        text.append("")
    text += [
        "## What was to be shown",
        "",
        *targets({k: v for k, v in measured.items() if k != FIRST}, found),
        "",
    ]
    text += typed
    text += ["## Time", ""]
    counts = {
        name: max(sum(len(r.exact) for k, r in sets.items() if k != FIRST), len(sets[FIRST].exact))
        for name, sets in found.items()
    }
    told = (
        f"{s.title} {seconds[s.name]:.0f} s for {counts[s.name]:,}"
        for s in SYSTEMS
        if s.name in counts
    )
    text += [
        f"On two CPU cores, shared with other work, compiling included: {'; '.join(told)}.",
        "",
    ]
    return "\n".join(text) + (f"\n{notes}" if notes else "")


def targets(
    measured: dict[str, list[LabelledQuestion]], found: dict[str, dict[str, Rows]]
) -> list[str]:
    """Each target with what was measured; differences of Score with 95 % intervals."""

    def joined(system: str, kind: str, name: str | None) -> np.ndarray:
        sets = [name] if name else list(measured)
        parts = [found[system][s].score[kind_masks(measured[s])[kind]] for s in sets]
        return np.concatenate(parts)

    lines = ["| target | questions | against | difference | |", "|---|---|---|---|---|"]
    asked = (
        ("look-ahead, not literal: 5 points above", "spm_look", "not literal", 5.0),
        ("look-ahead, literal: within 3 points", "spm_look", "literal", -3.0),
        ("whole system: above", "spm_whole", "all", 0.0),
    )
    for title, system, kind, least in asked:
        if system not in found:
            continue
        for name in (*measured, None):
            for baseline in ("strings", "encoder"):
                a, b = joined(system, kind, name), joined(baseline, kind, name)
                mean, low, high = difference(a, b)
                met = mean > least if least == 0 else mean >= least
                cells = (title, name or "both", baseline, f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]")
                lines.append(f"| {' | '.join(cells)} | {'met' if met else '**missed**'} |")
    return lines


def draw(
    path: Path, measured: dict[str, list[LabelledQuestion]], found: dict[str, dict[str, Rows]]
) -> None:
    """Score by system and kind of question, a panel for each set."""
    plt = pyplot()
    sizes = [len(_systems(name, found)) + 1 for name in measured]
    figure, panels = plt.subplots(
        len(measured), 1, figsize=(9, 0.55 * sum(sizes)), height_ratios=sizes
    )
    colours = {"literal": "#4c78a8", "not literal": "#f58518"}
    for axes, (name, gold) in zip(panels, measured.items(), strict=True):
        systems = _systems(name, found)
        places = np.arange(len(systems))[::-1]
        masks = kind_masks(gold)
        for shift, kind in ((0.19, "literal"), (-0.19, "not literal")):
            values = [100 * found[s.name][name].score[masks[kind]].mean() for s in systems]
            bars = axes.barh(places + shift, values, 0.36, label=kind, color=colours[kind])
            axes.bar_label(bars, fmt="%.1f", padding=2, fontsize=7)
        axes.set(title=f"{name}, {len(gold):,} questions", xlim=(0, 108))
        axes.set_yticks(places, [s.title for s in systems], fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="upper left", fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
