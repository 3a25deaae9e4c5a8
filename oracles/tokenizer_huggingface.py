"""Where this tokenizer and Hugging Face's differ, code point by code point.

Compares with the Rust tokenizer (`tokenizers`) and with transformers' older one in Python, every
code point between two letters, cased and uncased, and some texts where context matters. Writes
tests/golden/tokenizer_huggingface.json and the page docs/tokenizer_differences.md from it.
"""

from __future__ import annotations

import argparse
import json
import sys
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any

import _golden
import tokenizers
import transformers
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from transformers.models.bert.tokenization_bert_legacy import BasicTokenizer

sys.path.insert(0, str(_golden.ROOT))
from bert4kexue.tokenizers import Tokenizer

ENVIRONMENT = "huggingface"
GOLDEN = _golden.GOLDEN / "tokenizer_huggingface.json"
PAGE = _golden.ROOT / "docs" / "tokenizer_differences.md"
OLDER = "newer than the Unicode of its tables, or of another category there"
DEFAULTS = {"rust": "punctuation: " + OLDER, "python": "it composes the text first (NFC)"}
REASONS = {
    ("rust", "Co"): "private use: it drops them as controls; bert4keras keeps them",
    ("rust", "Lo"): "its CJK Extension E starts at U+2B920 instead of U+2B820",
    ("rust", "Cn"): "unassigned in Unicode 14: its lower-casing is of a newer Unicode",
    ("rust", "Mc"): "spacing or composed marks: " + OLDER,
    ("rust", "Mn"): "marks (uncased strips them): " + OLDER,
    ("rust", "Cf"): "format characters: " + OLDER,
    ("rust", "So"): "punctuation in its tables, a symbol since",
    ("python", "Co"): "private use: it drops every category C*; bert4keras only Cc and Cf",
    ("python", "Cn"): "unassigned in Unicode 14: it drops every category C*",
    ("python", "Cs"): "lone surrogates: it drops every category C*",
}
CONTEXT = ("ΑΣ", "a" * 150, "[MASK]", "a\u302e\U0001d165b", "e\u0301", "\u0041\u030a", "ê\u0323")


def rust(lower: bool) -> Callable[[str], list[str]]:
    """Words as the Rust BERT normaliser and splitter give them."""
    normalizer = BertNormalizer(lowercase=lower)
    splitter = BertPreTokenizer()
    return lambda text: [w for w, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))]


def python(lower: bool) -> Callable[[str], list[str]]:
    """Words as transformers' Python tokenizer gives them."""
    return BasicTokenizer(do_lower_case=lower).tokenize


def ours(lower: bool) -> Callable[[str], list[str]]:
    """Words as this project gives them: with no vocabulary, words stay as they are."""
    tokenizer = Tokenizer({"[UNK]": 0}, lower, token_start=None, token_end=None)
    return tokenizer.tokenize


def ranges(points: Iterable[int]) -> list[list[int]]:
    """[first, last] of runs of consecutive numbers."""
    found: list[list[int]] = []
    for point in points:
        if found and found[-1][1] == point - 1:
            found[-1][1] = point
        else:
            found.append([point, point])
    return found


def make() -> dict[str, Any]:
    """{reference: {cased/uncased: {category: ranges}}} and the texts in context."""
    golden: dict[str, Any] = {
        "made_with": {
            "tokenizers": tokenizers.__version__,
            "transformers": transformers.__version__,
        }
    }
    for name, reference in (("rust", rust), ("python", python)):
        golden[name] = {}
        for case, lower in (("cased", False), ("uncased", True)):
            theirs, mine = reference(lower), ours(lower)
            groups: dict[str, list[int]] = {}
            for point in range(0x110000):
                if name == "rust" and 0xD800 <= point < 0xE000:
                    continue  # no text to Rust
                text = f"x{chr(point)}y"
                if theirs(text) != mine(text):
                    groups.setdefault(unicodedata.category(chr(point)), []).append(point)
            golden[name][case] = {key: ranges(groups[key]) for key in sorted(groups)}
    golden["context"] = [[t, ours(True)(t), rust(True)(t), python(True)(t)] for t in CONTEXT]
    return golden


def page(golden: dict[str, Any]) -> str:
    """The documentation page."""
    made = golden["made_with"]
    lines = [
        "# Where token ids differ from Hugging Face's",
        "",
        "Written by `oracles/tokenizer_huggingface.py`, which compares every code point between",
        "two letters; edit that. Ids here are those of bert4keras, whose Unicode is frozen at",
        "version 14.0.0 in this package; Hugging Face's tokenizers follow other versions, and",
        "differ from each other.",
        "",
        f"Compared with: `tokenizers` {made['tokenizers']} (Rust) and the tokenizer in Python of",
        f"`transformers` {made['transformers']} on Unicode 14. Outside of these lists the words",
        "are the same.",
    ]
    titles = {"rust": "Rust (`tokenizers`)", "python": "Python (`transformers`, legacy)"}
    for name, title in titles.items():
        for case in ("cased", "uncased"):
            lines += ["", f"## {title}, {case}", ""]
            if not golden[name][case]:
                lines.append("No code point differs.")
                continue
            lines += ["| category | code points | why | which |", "|---|---|---|---|"]
            for category, spans in golden[name][case].items():
                count = sum(last - first + 1 for first, last in spans)
                shown = [f"{a:04X}" if a == b else f"{a:04X}-{b:04X}" for a, b in spans]
                which = ", ".join(shown[:60]) + (
                    f", and {len(shown) - 60} more ranges" * (len(shown) > 60)
                )
                reason = REASONS.get((name, category), DEFAULTS[name])
                lines.append(f"| {category} | {count} | {reason} | {which} |")
    lines += [
        "",
        "## In context (uncased)",
        "",
        "| text | here | Rust | Python |",
        "|---|---|---|---|",
    ]
    for text, *answers in golden["context"]:
        cells = [" ".join(a) for a in answers]
        cells = [f"{c[:12]}... ({len(c)})" if len(c) > 20 else c for c in [text, *cells]]
        lines.append("| " + " | ".join(ascii(c)[1:-1].replace("|", "\\|") for c in cells) + " |")
    lines += [
        "",
        "- A capital sigma that ends a word becomes a final sigma here and in Python, not in Rust.",
        "- A word of 101 to 200 characters is spelled here, as in bert4keras; Hugging Face makes",
        "  every word of more than 100 characters `[UNK]` (`word_maxlen=100` gives the same).",
        "- Special tokens written in a text, such as `[MASK]`, are text here; complete Hugging",
        "  Face tokenizers recognise them.",
        "",
        "## From bert4keras itself",
        "",
        "Ids are the same, with one exception: with `token_start=None`, a truncated pair never",
        "has more than `maxlen` ids (bert4keras gives one more). `rematch` counts in the original",
        "text also after U+0130 (bert4keras counts in the lower-cased text, where that is two",
        "characters), and also answers where marks change places in canonical order (bert4keras",
        "raises).",
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    """Check (the default) or write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with the files (default)")
    parser.add_argument("--write", action="store_true", help="replace the files")
    write = parser.parse_args().write
    fresh = json.loads(json.dumps(make()))
    if write:
        _golden.replace(GOLDEN, (json.dumps(fresh, separators=(",", ":")) + "\n").encode())
        _golden.replace(PAGE, page(fresh).encode())
        print(f"wrote {GOLDEN.name} and {PAGE.name}")
        return 0
    kept = json.loads(GOLDEN.read_text(encoding="utf-8"))
    found = [key for key in ("rust", "python", "context") if fresh[key] != kept.get(key)]
    for key in found:
        print(f"{GOLDEN.name}: {key!r} differs")
    if PAGE.read_text(encoding="utf-8") != page(kept):
        found.append("page")
        print(f"{PAGE.name} is not what the golden file says; make it again with --write")
    if not found:
        print(f"{GOLDEN.name} and {PAGE.name} agree")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
