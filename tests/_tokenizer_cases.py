"""Texts and a small vocabulary to compare tokenizers on: standard library only, from a seed."""

from __future__ import annotations

import random

SEED = 20140
CHINESE = (
    "的一是不了人我在有他这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着去之过家学"
)
WORDS = [
    "the",
    "model",
    "play",
    "ing",
    "un",
    "2019",
    "20",
    "it",
    "cafe",
    "中国",
    "大学",
    "ß",
    "σας",
]
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused1]"]

# Code points at which tokenizers go wrong, by the reason why.
HOSTILE = {
    "controls": "\x00\x01\x08\x0b\x0c\x1c\x1f\x7f\x80\x85\x9f\u00ad\u200b\u200d\u2060\ufeff\ufffd",
    "spaces": " \t\n\r\u00a0\u1680\u2003\u2028\u2029\u202f\u205f\u3000",
    "marks": "\u0300\u0301\u0308\u030a\u0323\u0345\u0591\u0903\u093c\u302e\u302f\u3099\U0001d165",
    "sigma": "ΣσςΑΒαΣ'.:\u00ad",
    "case": "AZÀÉÎõüÇŁİıẞßǅǆÅΩK𐐀ԱႠᏸﬁⅧⓐ",
    "full width": "，。！？：；（）ＡＺａｚ０９～￥",
    "cjk": "中国㐀䶿一鿿豈侮\u9fa6\U00020000\U0002a6df\U0002ceb0\U0002f800\U00030000",
    "kana and hangul": "ひらガがｶﾞ한국각가힣ᄒ",
    "symbols": "!#$+-<=>@[]^_`{|}~§¶«»·¿–—“”…€™©½²",
    "numbers": "0129٣५①Ⅳ",
    # High surrogates only: JSON would join a high and a low one.
    "unassigned and private": "\u0378\ue000\U000e0001\U0010ffff\ud800\udbff\u2fe0",
    "astral": "😀👍🏽🇨🇳𝔘𝕏𒀀",
    "latin": "the modeling played unplay cafe it's 2019 20190",
}


def vocabulary() -> list[str]:
    """Tokens by id: specials, single characters, continuations, some words."""
    singles = [chr(c) for c in range(0x21, 0x7F)] + list("àéüßσςαβ한가각한がﾞ。，！？：；（）“”…·—")
    singles += list(CHINESE + "㐀侮😀①½")
    tails = ["##" + c for c in "abcdefghijklmnopqrstuvwxyz0123456789ASEασςᅡᆫ"]
    tails += ["##ing", "##el", "##19", "##中"]
    return list(dict.fromkeys(SPECIALS + singles + tails + WORDS))


def texts() -> list[str]:
    """Hostile and ordinary texts, short ones first; the empty string is among them."""
    draw = random.Random(SEED)
    result = ["", " ", "[MASK] [SEP]", "ΑΣ ΑΣ. ΣΑ ΑΣΑ", "a\u0301b", "e\u0323\u0307", "x" * 205]
    result += [
        "的" * 300,
        "a\u302e\U0001d165\u0301b",
        "it's 3.5 (un-play) <ing>",
        "中国2019年, the end.",
    ]
    groups = list(HOSTILE.values())
    for _ in range(260):
        chosen = [*draw.sample(groups, draw.randint(1, 4)), CHINESE]
        length = draw.choice((1, 2, 4, 8, 16))
        result.append("".join(draw.choice(draw.choice(chosen)) for _ in range(length)))
    result += [group for group in groups]
    return result


def pairs() -> list[tuple[str, str | None, int | None, str, str | int]]:
    """(first, second, maxlen, pattern, truncate_from) for encode."""
    draw = random.Random(SEED + 1)
    pool = [text for text in texts() if len(text) > 2][:120]
    result = []
    for _ in range(150):
        second = draw.choice([None, *draw.choices(pool, k=3)])
        maxlen = draw.choice((None, 4, 5, 6, 7, 8, 12, 16))
        pattern = draw.choice(("S*E*E", "S*ES*E"))
        result.append((draw.choice(pool), second, maxlen, pattern, draw.choice(("right", "left"))))
    return result
