"""The small BERT that is shipped: both heads load, fit in 16 MB and know a little."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bert4kexue.cli.models import load_tokenizer
from bert4kexue.methods.mlm_prompt import MaskedScorer, MaskedTemplate
from bert4kexue.methods.nsp_prompt import NSPScorer
from bert4kexue.models import build_transformer_model

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "pretrained" / "bert_tiny_nsp_zh"

# Written for this test: what goes on, clause by clause.
PAIRS = [
    ("这家酒店的房间很小，", "隔音也很差，晚上睡不好。"),
    ("书的内容很好，", "孩子非常喜欢看。"),
    ("外卖送得太慢了，", "饭菜到的时候已经凉了。"),
    ("笔记本电脑的屏幕不错，", "就是电池用不了多久。"),
    ("中国队昨晚客场获胜，", "进入了世界杯预选赛的下一轮。"),
    ("央行宣布降低利率，", "股市应声上涨。"),
    ("国务院总理会见了外国代表团，", "双方就两国关系交换了意见。"),
    ("今年的粮食产量创历史新高，", "农民的收入也增加了。"),
    ("《红楼梦》的作者是谁？", "《红楼梦》的作者是曹雪芹"),
    ("北京大学是哪一年成立的？", "北京大学的成立时间是1898年"),
    ("新手机今天发布，", "价格比上一代便宜。"),
    ("这位演员离婚了，", "新恋情也被曝光。"),
    ("早餐的品种很少，", "服务员的态度也一般。"),
    ("味道不错，", "下次还会再点。"),
    ("高考成绩公布，", "考生可以上网查询。"),
    ("房价连续上涨，", "买房的人越来越少。"),
]


@pytest.fixture(scope="module")
def model():
    return build_transformer_model(FOLDER, with_nsp=True, with_mlm=True)


def test_it_is_small_and_in_the_original_layout():
    files = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert {"bert_config.json", "vocab.txt", "bert_model.ckpt.index", "README.md"} <= set(files)
    assert sum(files.values()) < 16e6


def test_what_goes_on_scores_higher_than_what_does_not(model):
    scorer = NSPScorer(model, load_tokenizer(str(FOLDER)))
    first, second = zip(*PAIRS, strict=True)
    right = scorer.score(PAIRS)
    shifts = [scorer.score([*zip(first, np.roll(second, k), strict=True)]) for k in range(1, 8)]
    assert np.mean([right > wrong for wrong in shifts]) > 0.7  # 112 comparisons, chance is half


def test_masked_words_are_likelier_where_they_belong(model):
    scorer = MaskedScorer(model, load_tokenizer(str(FOLDER)))
    cases = {
        "{}酒[MASK]的房间很小": ("店", "年", "吃"),
        "{}中国人民银[MASK]宣布": ("行", "好", "书"),
        "{}服务员的[MASK]很好": ("态度", "国家", "昨天"),
        "{}国务[MASK]总理": ("院", "很", "吃"),
        "{}我非常喜[MASK]这本书": ("欢", "国", "年"),
    }
    for pattern, words in cases.items():
        assert scorer.score([""], MaskedTemplate(pattern, words))[0].argmax() == 0, pattern


@pytest.mark.long
@pytest.mark.parametrize("name", ["task_nsp_bert_fewclue", "task_pet_fewclue"])
def test_the_examples_run_on_a_few_rows(name, tmp_path):
    pytest.importorskip("sklearn")
    if not os.environ.get("BERT4KEXUE_DATA"):
        pytest.skip("BERT4KEXUE_DATA is not set: the FewCLUE files are not here")
    words = ["--tasks", "eprstmt", "--few-shot", "eprstmt", "--splits", "2", "--epochs", "1"]
    words += ["--limit", "20"]
    words += ["--losses", "bce"] if "nsp" in name else ["--unlabelled", "20"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / f"{name}.py"), str(tmp_path), *words],
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert "±" in (tmp_path / "results.json").read_text(encoding="utf-8")
