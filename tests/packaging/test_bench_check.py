"""`make bench-check` compares in the right direction, with scripts that exist."""

from __future__ import annotations

import importlib.util
import json

import pytest
from _sources import ROOT

FOLDER = ROOT / "benchmarks"
EXPECTED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def check():
    spec = importlib.util.spec_from_file_location("bench_check", FOLDER / "check.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("claim", "value", "holds"),
    [
        ({"at_least": 10, "measured": 14}, 12.0, True),
        ({"at_least": 10, "measured": 14}, 9.9, False),
        ({"at_most": 1.5, "measured": 1.2}, 1.4, True),
        ({"at_most": 1.5, "measured": 1.2}, 1.6, False),
    ],
)
def test_a_claim_holds_on_the_right_side_of_its_limit(check, claim, value, holds) -> None:
    said, line = check.compare("ratio", value, claim)
    assert said is holds
    assert ("DOES NOT HOLD" in line) is not holds


@pytest.mark.parametrize("claim", [{"measured": 1}, {"at_least": 1, "at_most": 2, "measured": 1}])
def test_a_claim_without_one_limit_is_refused(check, claim) -> None:
    with pytest.raises(SystemExit, match="either at_least or at_most"):
        check.compare("ratio", 1.0, claim)


def test_numbers_are_found_by_dotted_name(check) -> None:
    assert check.look_up({"a": {"b": 3}}, "a.b") == 3.0
    with pytest.raises(SystemExit, match=r"no 'a\.c'"):
        check.look_up({"a": {"b": 3}}, "a.c")


@pytest.mark.parametrize("script", EXPECTED)
def test_every_claim_was_measured_and_holds_as_measured(check, script: str) -> None:
    assert (FOLDER / script).is_file()
    assert EXPECTED[script]["claims"]
    for name, claim in EXPECTED[script]["claims"].items():
        assert check.compare(name, claim["measured"], claim)[0], name
