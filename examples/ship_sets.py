"""Readers of the openly licensed sets (MIT, Apache-2.0) that the shipped model is trained on.

They read the folder named by `BERT4KEXUE_DATA` and nothing else; `pretrained/roformer_tiny_zh`
names the sets and their licences. What is held out is never trained on, the vocabulary included:
files that the sets themselves call dev, valid or test, and a tenth of the NLPCC questions, chosen
by a hash of the subject so that no held-out subject is ever seen.
"""

from __future__ import annotations

import io
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from bert4kexue.methods.question_rewriting import Question

CLAUSE = re.compile(r"[^，。！？；,!?;\n]*[，。！？；,!?;\n]?")
MEANING = re.compile(r"^(?P<subject>.+?)（(?P<meaning>[^（）]+)）$")


def data_folder() -> Path:
    """The folder that `BERT4KEXUE_DATA` names."""
    root = os.environ.get("BERT4KEXUE_DATA")
    if not root:
        raise SystemExit("set BERT4KEXUE_DATA to the folder of data sets")
    return Path(root)


def _lines(path: Path, member: str | None = None) -> Iterator[str]:
    if member is None:
        data = path.read_bytes()
    else:
        with zipfile.ZipFile(path) as archive:
            data = archive.read(member)
    for line in io.StringIO(data.decode("utf-8")):
        yield line.rstrip("\n")


def pieces(text: str, limit: int = 62) -> list[str]:
    """Cut a text at its punctuation into pieces of about `limit` characters at most."""
    parts: list[str] = []
    held = ""
    for clause in CLAUSE.findall(" ".join(text.split())):
        for start in range(0, len(clause), limit):
            part = clause[start : start + limit]
            if len(held) + len(part) > limit:
                parts.append(held)
                held = ""
            held += part
    parts.append(held)
    return [p.strip() for p in parts if len(p.strip()) > 3]


# --- running text -------------------------------------------------------------------------------


def _tagged(root: Path, member: str) -> Iterator[tuple[str, list[str]]]:
    """Sentences of the People's Daily NER set, each with its named entities."""
    characters: list[str] = []
    names: list[str] = []
    for line in [*_lines(root / "ner/ymcui_peopledaily/peopledaily.zip", member), ""]:
        if not line.strip():
            if characters:
                yield "".join(characters), names
            characters, names = [], []
            continue
        character, _, tag = line.partition(" ")
        characters.append(character)
        if tag.startswith("B-"):
            names.append(character)
        elif tag.startswith("I-") and names:
            names[-1] += character


def names(root: Path) -> list[str]:
    """People, places and organisations of the People's Daily training file, each once."""
    found = (n for _, tagged in _tagged(root, "train.txt") for n in tagged)
    return sorted({n for n in found if 2 <= len(n) <= 12})


def topics(root: Path, split: str = "train") -> list[tuple[str, int]]:
    """THUCNews titles with one of ten topics: `dev` is trained on, `test` held out."""
    name = {"train": "dev.txt", "held_out": "test.txt"}[split]
    rows = (line.rsplit("\t", 1) for line in _lines(root / "thucnews_title" / name) if line)
    return [(title, int(topic)) for title, topic in rows]


def titles(root: Path, split: str = "train") -> list[str]:
    """The same without their topics."""
    return [title for title, _ in topics(root, split)]


def _review_files(root: Path, split: str) -> tuple[Iterator[str], Iterator[str]]:
    """The reviews of bert4keras's sentiment set and of ChnSentiCorp, without their labels."""
    members = {"train": ["train"], "held_out": ["valid", "test"]}[split]
    sentiment = (
        line.rsplit("\t", 1)[0]
        for m in members
        for line in _lines(
            root / "bert4keras_examples/sentiment.zip", f"sentiment/sentiment.{m}.data"
        )
    )
    members = {"train": ["train"], "held_out": ["dev", "test"]}[split]
    chnsenticorp = (
        line.partition("\t")[2]
        for m in members
        for line in list(_lines(root / "chnsenticorp/chnsenticorp.zip", f"{m}.tsv"))[1:]
    )
    return sentiment, chnsenticorp


def reviews(root: Path, split: str = "train") -> list[str]:
    """Whole reviews of both sets, which overlap; `split` "train" or "held_out"."""
    return [text for part in _review_files(root, split) for text in part]


def news_sentences(root: Path, split: str = "train") -> list[str]:
    """Sentences of the People's Daily, in the paper's order; `split` "train" or "held_out"."""
    return [s for s, _ in _tagged(root, {"train": "train.txt", "held_out": "dev.txt"}[split])]


def running_text(root: Path, split: str = "train") -> dict[str, list[str]]:
    """Pieces of at most 62 characters per set, for `split` "train" or "held_out".

    What occurs among the training pieces is left out of the held-out ones: the two review sets
    overlap.
    """
    sentiment, chnsenticorp = (list(part) for part in _review_files(root, split))
    news = news_sentences(root, split)
    sets = {
        "sentiment": sentiment,
        "chnsenticorp": chnsenticorp,
        "people's daily": news,
        "thucnews": titles(root, split),
    }
    cut = {name: [p for t in texts for p in pieces(t)] for name, texts in sets.items()}
    # A piece once: chnsenticorp's hotel reviews are in the sentiment set too.
    seen = {p for ps in running_text(root).values() for p in ps} if split != "train" else set()
    unique: dict[str, list[str]] = {}
    for name, parts in cut.items():
        fresh = [p for p in dict.fromkeys(parts) if p not in seen]
        seen.update(fresh)
        unique[name] = fresh
    return unique


# --- questions over a knowledge base ------------------------------------------------------------


def split_meaning(subject: str) -> tuple[str, str]:
    """`"李娜（歌手）"` is the subject 李娜 with the meaning 歌手; most subjects have none."""
    match = MEANING.match(subject)
    return (match["subject"], match["meaning"]) if match else (subject, "")


def clean_predicate(predicate: str) -> str:
    """Undo what the crawl left in predicates: `职 务`, `【年代】`, `地区**`."""
    bare = re.sub(r"[【】*]|：$|:$", "", predicate).strip()
    return re.sub(r"(?<=[^\x00-\x7f]) +(?=[^\x00-\x7f])", "", bare)


def triples(root: Path) -> Iterator[tuple[str, str, str, str]]:
    """(question, subject, predicate, object) of NLPCC 2016 KBQA, as they are written."""
    question = ""
    folder = root / "nlpcc2016kbqa"
    for line in _lines(folder / "nlpcc-iccpol-2016.kbqa.training-data"):
        head, _, body = line.partition("\t")
        if head.startswith("<question"):
            question = body.strip()
        elif head.startswith("<triple"):
            subject, predicate, value = body.split(" ||| ", 2)
            yield question, subject.strip(), predicate, value.strip()


def is_held_out(subject: str) -> bool:
    """A tenth of the subjects, by a hash that never changes."""
    return zlib.crc32(subject.encode("utf-8")) % 10 == 0


def questions(root: Path, split: str = "train") -> list[Question]:
    """The NLPCC questions with the keys of their triples; `split` "train" or "held_out"."""
    rows = []
    for question, subject, predicate, _ in triples(root):
        name, meaning = split_meaning(subject)
        predicate = clean_predicate(predicate)
        if is_held_out(name) == (split == "held_out") and question and name and predicate:
            rows.append(Question(question, name, predicate, meaning))
    return rows


# --- pairs of sentences -------------------------------------------------------------------------


def sentence_pairs(root: Path, split: str = "train") -> list[tuple[str, str, float]]:
    """CNSD STS-B: two sentences and a similarity of 0 to 5; `split` train, dev or test."""
    rows = (line.split("||") for line in _lines(root / f"cnsd_sts_b/cnsd-sts-{split}.txt"))
    return [(row[1], row[2], float(row[3])) for row in rows if len(row) == 4]


def training_text(root: Path) -> Iterator[str]:
    """Every text the shipped model may be trained on."""
    for texts in running_text(root).values():
        yield from texts
    for row in questions(root):
        yield from row
    for first, second, _ in sentence_pairs(root):
        yield from (first, second)
