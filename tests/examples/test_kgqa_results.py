"""The parts of `kgqa_results.py`: the knowledge base, the baselines, what is counted."""

from __future__ import annotations

import numpy as np
import pytest
from _sources import ROOT

from bert4kexue.methods.question_files import LabelledQuestion, Triple

GOLD = [
    LabelledQuestion(0, "静夜思的作者是谁？", "静夜思", "作者", "李白"),
    LabelledQuestion(1, "李白干什么的", "李白（唐代诗人）", "职业", "诗人"),
]


@pytest.fixture
def examples(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import kgqa_baselines
    import kgqa_report
    import kgqa_results  # noqa: F401  its parts fit together
    import kgqa_sets
    import kgqa_systems
    import kgqa_typed

    class Modules:
        sets, baselines, report = kgqa_sets, kgqa_baselines, kgqa_report
        systems, typed = kgqa_systems, kgqa_typed

    return Modules


def test_wrong_predicates_are_the_most_like_ones_and_frequent_ones(examples):
    names = ["作者", "作者", "作者", "作家", "编者", "职业", "出生地"]
    questions = [GOLD[0]._replace(predicate=name) for name in names]
    predicates = examples.sets.Predicates(questions, np.random.default_rng(0))
    assert predicates.like("作者", 2) == ["作家", "编者"]
    drawn = [predicates.drawn(2, {"出生地"}) for _ in range(300)]
    assert all(len(set(two)) == 2 and "出生地" not in two for two in drawn)
    first = [two[0] for two in drawn]
    assert first.count("作者") > 2 * first.count("职业") > 0, "as frequent as in the questions"


def test_other_subjects_are_none_of_the_measured_ones(examples, monkeypatch):
    monkeypatch.setattr(examples.sets.ship_sets, "names", lambda root: ["静夜思", "今天天气"])
    found = examples.sets.other_subjects(
        None,
        [*GOLD, GOLD[0]._replace(name="法师（角色）")],
        {"静夜思"},
        40,
        np.random.default_rng(0),
    )
    assert len(found) == len(set(found)) == 40
    assert "静夜思" not in found
    assert {"今天天气", "法师（角色）", "诗人"} <= set(found)


def test_baselines_take_the_longest_subject_and_the_nearest_predicate(examples, tmp_path):
    path = tmp_path / "facts.tsv"
    lines = [
        ("静夜", "作者", "错"),
        ("静夜思", "作品年代", "唐"),
        ("静夜思", "作者", "李白"),
        ("李白（游戏角色）", "职业", "法师"),
        ("李白（唐代诗人）", "职业", "诗人"),
        ("别的", "作者", "谁"),
    ]
    path.write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8")
    texts = ["静夜思的作者是谁？", "李白这个唐代诗人的职业", "无关的问题"]
    asked = [GOLD[0]._replace(question=text) for text in texts]
    baselines = examples.baselines.Baselines(path, {"set": asked}, "no model")
    found = baselines.strings(texts)
    assert found[0] == Triple("静夜思", "作者", "李白")
    assert found[1] == Triple("李白（唐代诗人）", "职业", "诗人"), "the meaning is said"
    assert "别的" not in baselines.facts, "it stands in no question"
    assert Triple(*found[2]) in {Triple(*line) for line in lines}


def test_scores_are_counted_question_by_question(examples):
    report = examples.report
    found = [Triple("静夜思", "作者", "李白"), Triple("李白（唐代诗人）", "职位", "诗")]
    counted = report.rows(found, GOLD)
    np.testing.assert_array_equal(counted.exact, [1, 0])
    np.testing.assert_array_equal(counted.subject, [1, 1])
    np.testing.assert_array_equal(counted.predicate, [1, 0])
    np.testing.assert_allclose(counted.score, [1, 1 / 3])  # F1 is 2 · 1 / 3
    masks = report.kind_masks(GOLD)
    np.testing.assert_array_equal(masks["literal"], [True, False])
    mean, low, high = report.difference(np.ones(50), np.zeros(50))
    assert (mean, low, high) == (100, 100, 100)
    assert examples.typed.area([2, 3], [1, 2]) == 0.875


def test_a_key_that_is_no_fact_is_taken_apart(examples):
    from tiny_models import tiny_tokenizer

    from bert4kexue.methods.knowledge_base import fact_key

    tokenizer = tiny_tokenizer()
    end = tokenizer._token_end_id
    for order in ("spm", "smp"):
        key = fact_key(tokenizer, ("李白", "职业", "诗人"), order)
        written = examples.systems._written(tokenizer, key, end, order)
        assert written == Triple("李白（诗人）", "职业", "")
    assert examples.systems._written(tokenizer, key[:2], end, "spm") == Triple("李白", "", "")
