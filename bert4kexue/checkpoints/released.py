"""The released Chinese checkpoints that bert4keras users hold: names, archives, what they need.

Taken from their authors' pages. None of these pages publishes a checksum of its archive.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Released:
    """One released checkpoint.

    Args:
        archive: the file as its author names it; without its suffix, the folder inside.
        author: who trained it.
        model: `build_transformer_model(model=...)`; None for a family that is not built yet.
        family: the architecture, in words.
        arguments: further arguments that use the checkpoint as it was trained.
        word_based: its vocabulary holds words, so text is segmented first.
    """

    archive: str
    author: str
    model: str | None
    family: str
    arguments: str = ""
    word_based: bool = False


_SIMILARITY = 'application="unilm", with_pool="linear"'


def _bert(author: str, *archives: str, arguments: str = "") -> list[Released]:
    return [
        Released(archive=a, author=author, model="bert", family="BERT", arguments=arguments)
        for a in archives
    ]


def _roformer(*archives: str, arguments: str = "", word_based: bool = False) -> list[Released]:
    return [
        Released(
            archive=a,
            author="Zhuiyi",
            model="roformer",
            family="RoFormer",
            arguments=arguments,
            word_based=word_based,
        )
        for a in archives
    ]


def _planned(author: str, family: str, *archives: str) -> list[Released]:
    return [Released(archive=a, author=author, model=None, family=family) for a in archives]


RELEASED: tuple[Released, ...] = (
    *_bert("Google", "chinese_L-12_H-768_A-12.zip", "multi_cased_L-12_H-768_A-12.zip"),
    *_bert(
        "HIT and iFLYTEK",
        "chinese_wwm_L-12_H-768_A-12.zip",
        "chinese_wwm_ext_L-12_H-768_A-12.zip",
        "chinese_roberta_wwm_ext_L-12_H-768_A-12.zip",
        "chinese_roberta_wwm_large_ext_L-24_H-1024_A-16.zip",
        "chinese_rbt3_L-3_H-768_A-12.zip",
        "chinese_rbt4_L-4_H-768_A-12.zip",
        "chinese_rbt6_L-6_H-768_A-12.zip",
        "chinese_rbtl3_L-3_H-1024_A-16.zip",
    ),
    *_bert("brightmart", "roeberta_zh_L-24_H-1024_A-16.zip"),
    *_bert("Zhuiyi", "chinese_roberta_L-4_H-312_A-12.zip", "chinese_roberta_L-6_H-384_A-12.zip"),
    *_bert(
        "Zhuiyi",
        "chinese_simbert_L-12_H-768_A-12.zip",
        "chinese_simbert_L-6_H-384_A-12.zip",
        "chinese_simbert_L-4_H-312_A-12.zip",
        arguments=_SIMILARITY,
    ),
    *(
        Released(archive=a, author="Zhuiyi", model="bert", family="WoBERT (BERT)", word_based=True)
        for a in (
            "chinese_wobert_L-12_H-768_A-12.zip",
            "chinese_wobert_plus_L-12_H-768_A-12.zip",
        )
    ),
    *_roformer(
        "chinese_roformer_L-12_H-768_A-12.zip",
        "chinese_roformer_L-6_H-384_A-6.zip",
        word_based=True,
    ),
    *_roformer(
        "chinese_roformer-char_L-12_H-768_A-12.zip",
        "chinese_roformer-char_L-6_H-384_A-6.zip",
    ),
    *_roformer(
        "chinese_roformer-gpt-char_L-12_H-768_A-12.zip",
        arguments='application="lm"',
    ),
    *_roformer(
        "chinese_roformer-sim-char_L-12_H-768_A-12.zip",
        "chinese_roformer-sim-char_L-6_H-384_A-6.zip",
        "chinese_roformer-sim-char-ft_L-12_H-768_A-12.zip",
        "chinese_roformer-sim-char-ft_L-6_H-384_A-6.zip",
        arguments=_SIMILARITY,
    ),
    *_planned(
        "Zhuiyi",
        "RoFormerV2",
        "chinese_roformer-v2-char_L-6_H-384_A-6.zip",
        "chinese_roformer-v2-char_L-12_H-768_A-12.zip",
        "chinese_roformer-v2-char_L-24_H-1024_A-16.zip",
    ),
    *_planned("Zhuiyi", "GAU-alpha", "chinese_GAU-alpha-char_L-24_H-768.zip"),
    *_planned("Zhuiyi", "NEZHA (word-based)", "chinese_wonezha_L-12_H-768_A-12.zip"),
    *_planned(
        "Zhuiyi",
        "T5 (T5-PEGASUS)",
        "chinese_t5_pegasus_base.zip",
        "chinese_t5_pegasus_small.zip",
    ),
    *_planned(
        "HIT and iFLYTEK",
        "ELECTRA",
        "chinese_electra_base_L-12_H-768_A-12.zip",
        "chinese_electra_small_L-12_H-256_A-4.zip",
    ),
    *_planned(
        "Google",
        "ALBERT",
        "albert_base_zh.tar.gz",
        "albert_large_zh.tar.gz",
        "albert_xlarge_zh.tar.gz",
        "albert_xxlarge_zh.tar.gz",
    ),
    *_planned("brightmart", "ALBERT", "albert_tiny_zh_google.zip", "albert_small_zh_google.zip"),
    *_planned("Tsinghua", "GPT (CDial-GPT)", "GPT_LCCC-base-tf.zip"),
    *_planned("Tsinghua", "GPT2 (CPM)", "CPM_LM_2.6B_TF.zip"),
)
