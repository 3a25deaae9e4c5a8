"""FewCLUE: templates byte for byte, the readers' row counts, answers by a tiny model."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from tiny_models import tiny_model, tiny_tokenizer

from bert4kexue.methods.fewclue import TASKS, find_task
from bert4kexue.methods.fewclue_scores import accuracy, answer, majority, nearest_name

ROWS = {  # train_N, dev_N, dev_few_all, test_public of the released files
    "eprstmt": (32, 32, 160, 610),
    "tnews": (240, 240, 1098, 2010),
    "csldcp": (536, 536, 2068, 1784),
    "iflytek": (928, 690, 1373, 1749),
    "ocnli": (32, 32, 160, 2520),
    "bustm": (32, 32, 160, 1772),
    "csl": (32, 32, 160, 2838),
    "chid": (42, 42, 202, 2002),
    "cluewsc": (32, 32, 159, 976),
}


@pytest.mark.parametrize("name", ROWS)
def test_every_row_of_the_released_files_is_read(name):
    root = os.environ.get("BERT4KEXUE_DATA")
    if not root:
        pytest.skip("BERT4KEXUE_DATA is not set: the FewCLUE files are not here")
    task, folder, (train, dev, all_dev, public) = (
        TASKS[name],
        Path(root, "fewclue", name),
        ROWS[name],
    )
    expected = {"dev_few_all": all_dev, "test_public": public}
    expected |= {f"train_{i}": train for i in range(5)} | {f"dev_{i}": dev for i in range(5)}
    found = {
        path.stem: task.read(path) for path in sorted(folder.glob("*_*.json")) if not_a_list(path)
    }
    assert {f"train_{i}" for i in range(5)} | {"dev_few_all"} <= found.keys()
    for file, samples in found.items():
        assert len(samples) == expected.get(file, len(samples)), file
        assert all(0 <= sample.label < len(task.labels) for sample in samples), file
    seen = {sample.label for samples in found.values() for sample in samples}
    assert seen == set(range(len(task.labels)))


def not_a_list(path):
    """Not one of the files that explain labels."""
    return not path.name.startswith("label")


def test_label_names_are_those_that_the_files_give_beside_the_numbers():
    root = os.environ.get("BERT4KEXUE_DATA")
    if not root:
        pytest.skip("BERT4KEXUE_DATA is not set: the FewCLUE files are not here")
    folder = Path(root, "fewclue")
    lines = (folder / "iflytek/train_few_all.json").read_text(encoding="utf-8").strip().split("\n")
    named = {int(row["label"]): row["label_des"] for row in map(json.loads, lines)}
    assert [named[i] for i in range(119)] == list(TASKS["iflytek"].names)
    lines = (folder / "csldcp/train_few_all.json").read_text(encoding="utf-8").strip().split("\n")
    assert {json.loads(line)["label"] for line in lines} == set(TASKS["csldcp"].names)


def test_templates_byte_for_byte():
    def prompts(name, index, label):
        task = TASKS[name]
        return task.template(index).texts[task.labels.index(label)]

    assert [TASKS["eprstmt"].template(i).texts for i in range(3)] == [
        ("好评", "差评"),
        ("东西不错", "东西很差"),
        ("这次买的东西很好", "这次买的东西很差"),
    ]
    tnews = [prompts("tnews", i, "114") for i in range(3)]
    assert tnews == ["股票", "股票新闻", "这是一则股票新闻"]
    assert prompts("tnews", -1, "100") == "这是一则故事新闻"
    assert prompts("tnews_new", -1, "11") == "这是一则证券新闻"
    assert prompts("csldcp", 1, "数学") == "数学类论文"
    assert prompts("csldcp", -1, "畜牧学/兽医学") == "这是一篇畜牧学/兽医学类论文"
    assert prompts("iflytek", -1, "61") == "这是一款语言(非英语)类软件"
    assert prompts("iflytek", 1, "118") == "其他类软件"
    sizes = {name: len(task.labels) for name, task in TASKS.items()}
    assert (sizes["tnews"], sizes["csldcp"], sizes["iflytek"]) == (15, 67, 119)
    assert all(len(task.names) in (0, len(task.labels)) for task in TASKS.values())


# Table 12 of the paper and the code's label lists, written out here once more.
WRITTEN = {
    "tnews": "故事 文化 娱乐 体育 财经 房产 汽车 教育 科技 军事 旅游 国际 股票 农业 电竞",
    "tnews_new": "文化 娱乐 体育 财经 房产 汽车 教育 科技 军事 旅游 国际 证券 农业 电竞 民生",
}
FRAMES = {
    "tnews": ("X", "X新闻", "这是一则X新闻"),
    "tnews_new": ("X", "X新闻", "这是一则X新闻"),
    "csldcp": ("X", "X类论文", "这是一篇X类论文"),
    "iflytek": ("X", "X类软件", "这是一款X类软件"),
}


@pytest.mark.parametrize("place", ["prefix", "suffix"])
@pytest.mark.parametrize("name", FRAMES)
def test_every_rendered_template_byte_for_byte(name, place):
    names = WRITTEN[name].split() if name in WRITTEN else TASKS[name].names
    for index, frame in enumerate(FRAMES[name]):
        template = TASKS[name].template(index, place)
        assert [text.encode() for text in template.texts] == [
            frame.replace("X", label).encode() for label in names
        ]
        assert template.place == place
    assert TASKS[name].place == "prefix"
    assert TASKS[name].template().texts == TASKS[name].template(2).texts


def test_masked_templates_are_the_same_sentences_with_a_hole():
    found = [TASKS["eprstmt"].masked(i) for i in range(3)]
    assert [(one.pattern, one.words) for one in found] == [
        ("[MASK]评。{}", ("好", "差")),
        ("东西[MASK]。{}", ("不错", "很差")),
        ("这次买的东西很[MASK]。{}", ("好", "差")),
    ]
    assert TASKS["tnews"].masked().pattern == "这是一则[MASK]新闻。{}"
    assert TASKS["tnews"].masked().words == TASKS["tnews"].names


def test_pairs_stand_as_the_paper_and_its_code_put_them(tmp_path):
    rows = {
        "ocnli": {"sentence1": "甲", "sentence2": "乙", "label": "neutral"},
        "csl": {"abst": "摘要", "keyword": ["一", "二"], "label": "1"},
        "cluewsc": {
            "text": "他来。",
            "target": {"span1_text": "张三", "span2_text": "他"},
            "label": "true",
        },
    }
    found = {}
    for name, row in rows.items():
        (sample,) = TASKS[name].read(write(tmp_path, [row]))
        found[name] = TASKS[name].pair(sample), TASKS[name].pair(sample, "suffix")
    assert found["ocnli"] == (("乙", "甲"), ("甲", "乙"))
    assert found["csl"][0] == ("摘要", "一,二")
    assert found["cluewsc"] == (
        ("张三", "他来。上文中他是指"),
        ("他来。上文中他是指", "张三"),
    )


def write(folder, rows):
    path = folder / "rows.json"
    lines = (json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_labels_may_be_numbers_or_strings(tmp_path):
    rows = [{"sentence": "今天", "label": 103}, {"sentence": "天气", "label": "103"}]
    assert [s.label for s in TASKS["tnews"].read(write(tmp_path, rows))] == [3, 3]


def test_a_file_without_labels_can_be_read_and_not_be_judged(tmp_path):
    samples = TASKS["tnews"].read(write(tmp_path, [{"sentence": "今天"}]))
    assert samples[0].label == -1
    with pytest.raises(ValueError, match="1 unknown"):
        accuracy([0], [samples[0].label])


def test_an_unknown_label_is_refused(tmp_path):
    with pytest.raises(ValueError, match="row 1 has the label '105'"):
        TASKS["tnews"].read(write(tmp_path, [{"sentence": "今天", "label": "105"}]))


def test_a_row_of_another_task_is_refused(tmp_path):
    with pytest.raises(ValueError, match="row 1 is no row of csldcp"):
        TASKS["csldcp"].read(write(tmp_path, [{"sentence": "今天", "label": "数学"}]))


@pytest.mark.parametrize("content", ["没有", "#idiom##idiom#"])
def test_a_cloze_without_its_blank_is_refused(tmp_path, content):
    row = {"content": content, "candidates": ["甲", "乙"], "answer": 0}
    with pytest.raises(ValueError, match="exactly one #idiom#"):
        TASKS["chid"].read(write(tmp_path, [row]))


def test_an_unknown_task_is_refused():
    with pytest.raises(ValueError, match="there is no task 'news': the tasks are eprstmt"):
        find_task("news")
    with pytest.raises(ValueError, match="3 templates, numbered from 0, got 3"):
        TASKS["tnews"].template(3)


def test_every_kind_of_task_is_answered(tmp_path):
    tokenizer = tiny_tokenizer()
    model = tiny_model(family="bert", with_nsp=True)
    soft = tiny_model(family="bert", with_nsp=True, custom_position_ids=True)
    rows = {
        "eprstmt": [{"sentence": text, "label": "Positive"} for text in ("今天", "天气好")],
        "bustm": [
            {"sentence1": text, "sentence2": "今天", "label": "1"} for text in ("天", "李白", "好")
        ],
        "chid": [{"content": "今#idiom#天", "candidates": list("天气很好的是李"), "answer": 1}],
    }
    for name, some in rows.items():
        samples = TASKS[name].read(write(tmp_path, some))
        used = soft if name == "chid" else model
        found = answer(TASKS[name], samples, used, tokenizer, maxlen=40)
        assert found.shape == (len(samples),)
        assert (found < len(TASKS[name].labels)).all()
    assert majority(samples).value == 1


def test_the_interval_is_wilsons():
    found = accuracy([1] * 8 + [0] * 2, [1] * 10)
    assert found[:1] == (0.8,)
    np.testing.assert_allclose(found[1:3], [0.4902, 0.9433], atol=1e-4)


def test_the_baseline_finds_the_name_that_stands_in_the_text():
    names = ["体育", "财经", "娱乐"]
    assert nearest_name(["财经快讯", "体育课", "别的"], names).tolist() == [1, 0, 0]
