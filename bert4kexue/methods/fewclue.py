"""The nine FewCLUE tasks for NSP prompts: readers of their files, labels, the paper's templates.

A row is a :class:`Sample`: the two texts of a pair, or one text with its candidates, and the
label's number in the task's own order. Labels are strings, whichever of "1" and 1 a file holds.
Templates are those of the NSP-BERT paper and code, kexue.fm/archives/8671; where the two place a
prompt differently the code's place is the default and `place=` takes the other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from bert4kexue.methods.fewclue_labels import CSLDCP, IFLYTEK, TNEWS, TNEWS_IDS, TNEWS_PAPER
from bert4kexue.methods.mlm_prompt import HOLE, MaskedTemplate
from bert4kexue.methods.nsp_prompt import Place, PromptTemplate, two_stage
from bert4kexue.methods.soft_positions import BLANK
from bert4kexue.training.corpora import read_rows

Kind = Literal["classify", "pair", "cloze", "wsc"]


class Sample(NamedTuple):
    """A row of a task; `label` is -1 where the file has none."""

    text: str
    second: str = ""
    candidates: tuple[str, ...] = ()
    label: int = -1


@dataclasses.dataclass(frozen=True)
class FewClueTask:
    """What a task is.

    Args:
        name: of the folder.
        kind: 'classify' texts by candidates, 'pair' and 'wsc' by samples-contrast, 'cloze'.
        labels: as the files write them, in the order of the numbers; pairs from low to high score.
        names: what stands for the labels in a prompt.
        templates: patterns, the last one the paper's; or tuples of a prompt for each label.
        place: of the prompt; of a pair, 'prefix' puts its second text first.
        published: accuracy of NSP-BERT in the paper's Table 1, in percent.
        sample: from a row of the file to a `Sample` without its label.
        field: of the label.
    """

    name: str
    kind: Kind
    labels: tuple[str, ...]
    names: tuple[str, ...]
    templates: tuple[str | tuple[str, ...], ...]
    place: Place
    published: float
    sample: Callable[[dict[str, Any]], Sample]
    field: str = "label"

    def read(self, path: str | Path) -> list[Sample]:
        """The rows of a file, in their order.

        Raises:
            CorpusError: no such file, or one that is no JSON lines.
            ValueError: a row that lacks something, or a label that the task does not know.
        """
        numbers = {label: i for i, label in enumerate(self.labels)}
        samples = []
        for line, row in enumerate(read_rows(Path(path), {}), 1):
            try:
                sample = self.sample(row)
            except (KeyError, TypeError) as error:
                raise ValueError(
                    f"{path}, row {line} is no row of {self.name} ({error!r} is missing or of "
                    f"another type); it has {sorted(row)}"
                ) from None
            label = row.get(self.field)
            if label is not None and str(label) not in numbers:
                raise ValueError(
                    f"{path}, row {line} has the label {label!r}, which {self.name} does not know: "
                    f"its labels are {', '.join(self.labels[:20])}"
                )
            samples.append(sample._replace(label=-1 if label is None else numbers[str(label)]))
        return samples

    def template(self, index: int = -1, place: Place | None = None) -> PromptTemplate:
        """A template of a 'classify' task, by its number; -1 is the last.

        Raises:
            ValueError: the task has no prompts, or none of this number.
        """
        chosen, place = self._chosen(index), place or self.place
        if isinstance(chosen, str):
            return PromptTemplate.of(chosen, self.names, place)
        return PromptTemplate(chosen, place)

    def masked(self, index: int = -1) -> MaskedTemplate:
        """The same template for masked words: its sentence, a hole where labels differ, the text.

        Raises:
            ValueError: as `template`.
        """
        chosen = self._chosen(index)
        if isinstance(chosen, str):
            return MaskedTemplate(chosen.replace("{}", HOLE) + "。{}", self.names)
        before = _common_start(chosen)
        after = _common_start([text[len(before) :][::-1] for text in chosen])[::-1]
        words = tuple(text[len(before) : len(text) - len(after)] for text in chosen)
        return MaskedTemplate(f"{before}{HOLE}{after}。{{}}", words)

    def _chosen(self, index: int) -> str | tuple[str, ...]:
        if not -len(self.templates) <= index < len(self.templates):
            raise ValueError(
                f"{self.name} has {len(self.templates)} templates, numbered from 0, got {index}"
            )
        return self.templates[index]

    def pair(self, sample: Sample, place: Place | None = None) -> tuple[str, str]:
        """First and second segment of a 'pair' or 'wsc' sample."""
        pair = (sample.text, sample.second)
        return pair if (place or self.place) == "suffix" else pair[::-1]


def _common_start(texts: Sequence[str]) -> str:
    columns = enumerate(zip(*texts, strict=False))
    differ = (place for place, letters in columns if len(set(letters)) > 1)
    return texts[0][: next(differ, min(map(len, texts)))]


def _sentence(row: dict[str, Any]) -> Sample:
    return Sample(_text(row, "sentence" if "sentence" in row else "text"))


def _text(row: dict[str, Any], field: str) -> str:
    if not isinstance(row[field], str):
        raise TypeError(field)
    return row[field]


def _sentences(row: dict[str, Any]) -> Sample:
    return Sample(_text(row, "sentence1"), _text(row, "sentence2"))


def _keywords(row: dict[str, Any]) -> Sample:
    words = row["keyword"]
    return Sample(_text(row, "abst"), ",".join(words.split() if isinstance(words, str) else words))


def _idiom(row: dict[str, Any]) -> Sample:
    text = _text(row, "content")
    if text.count(BLANK) != 1:
        raise TypeError(f"exactly one {BLANK}")
    return Sample(text, candidates=tuple(row["candidates"]))


def _pronoun(row: dict[str, Any]) -> Sample:
    target = row["target"]
    return Sample(two_stage(_text(row, "text"), target["span2_text"]), target["span1_text"])


_ALL = (
    FewClueTask(
        "eprstmt",
        "classify",
        ("Positive", "Negative"),
        ("好评", "差评"),
        (
            ("好评", "差评"),
            ("东西不错", "东西很差"),
            ("这次买的东西很好", "这次买的东西很差"),
        ),
        "prefix",
        86.9,
        _sentence,
    ),
    FewClueTask(
        "tnews",
        "classify",
        TNEWS_IDS,
        TNEWS,
        ("{}", "{}新闻", "这是一则{}新闻"),
        "prefix",
        51.0,
        _sentence,
    ),
    FewClueTask(
        "tnews_new",
        "classify",
        tuple(str(i) for i in range(15)),
        TNEWS_PAPER,
        ("{}", "{}新闻", "这是一则{}新闻"),
        "prefix",
        51.0,
        _sentence,
    ),
    FewClueTask(
        "csldcp",
        "classify",
        CSLDCP,
        CSLDCP,
        ("{}", "{}类论文", "这是一篇{}类论文"),
        "prefix",
        47.6,
        lambda row: Sample(_text(row, "content")),
    ),
    FewClueTask(
        "iflytek",
        "classify",
        tuple(str(i) for i in range(119)),
        IFLYTEK,
        ("{}", "{}类软件", "这是一款{}类软件"),
        "prefix",
        41.6,
        _sentence,
    ),
    FewClueTask(
        "ocnli",
        "pair",
        ("contradiction", "neutral", "entailment"),
        (),
        (),
        "prefix",
        37.4,
        _sentences,
    ),
    FewClueTask("bustm", "pair", ("0", "1"), (), (), "prefix", 63.4, _sentences),
    FewClueTask("csl", "pair", ("0", "1"), (), (), "suffix", 64.4, _keywords),
    FewClueTask(
        "chid",
        "cloze",
        tuple(str(i) for i in range(7)),
        (),
        (),
        "prefix",
        52.0,
        _idiom,
        "answer",
    ),
    FewClueTask("cluewsc", "wsc", ("false", "true"), (), (), "prefix", 59.4, _pronoun),
)
TASKS: Mapping[str, FewClueTask] = MappingProxyType({task.name: task for task in _ALL})


def find_task(name: str) -> FewClueTask:
    """The task of this name.

    Raises:
        ValueError: there is none; the message lists them.
    """
    if name not in TASKS:
        raise ValueError(f"there is no task {name!r}: the tasks are {', '.join(TASKS)}")
    return TASKS[name]
