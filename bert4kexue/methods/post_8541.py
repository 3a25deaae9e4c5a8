"""The cosines that kexue.fm/archives/8541 prints, and whether a model has them."""

from __future__ import annotations

from typing import NamedTuple

from bert4kexue.methods.sentence_encoder import SentenceEncoder

#: The released checkpoint they are of.
CHECKPOINT = "chinese_roformer-sim-char-ft_L-12_H-768_A-12"
_CAR = "给我推荐一款红色的车"
PAIRS = (
    ("我喜欢北京", "我很喜欢北京", 0.9921),
    ("我喜欢北京", "我不喜欢北京", 0.5291),
    ("今天天气不错", "今天天气很好", 0.9770),
    ("今天天气不错", "今天天气不好", 0.6236),
    ("电影不错", "电影很好", 0.9676),
    ("电影不错", "电影不好", 0.6313),
    ("红色的苹果", "绿色的苹果", 0.6975),
    (_CAR, "给我推荐一款黑色的车", 0.7192),
    (_CAR, "推荐一辆红车", 0.9866),
    (_CAR, "麻烦来一辆红车", 0.9461),
)
#: The post prints four digits, and float32 sums in another order elsewhere.
TOLERANCE = 5e-4


class PostCosine(NamedTuple):
    """A pair, the post's cosine and the model's."""

    first: str
    second: str
    post: float
    found: float

    @property
    def agrees(self) -> bool:
        """Whether both are the same within the post's digits."""
        return abs(self.post - self.found) <= TOLERANCE


def compare(encoder: SentenceEncoder) -> list[PostCosine]:
    """Every pair of the post, by this encoder."""
    texts = list(dict.fromkeys(text for pair in PAIRS for text in pair[:2]))
    row = {text: i for i, text in enumerate(texts)}
    vectors = encoder.encode(texts)
    return [
        PostCosine(a, b, post, float(vectors[row[a]] @ vectors[row[b]])) for a, b, post in PAIRS
    ]
