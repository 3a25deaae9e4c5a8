"""What pyproject.toml promises agrees with the package and with what is tested."""

from __future__ import annotations

import re
import tomllib

from _sources import ROOT
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import bert4kexue

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOWEST = (ROOT / "tools" / "lowest.txt").read_text(encoding="utf-8")


def pins(python: str) -> dict[str, str]:
    lines = [line for line in LOWEST.splitlines() if line and not line.startswith("#")]
    found = {}
    for pin in map(Requirement, lines):
        if pin.marker is None or pin.marker.evaluate({"python_version": python}):
            found[pin.name] = str(pin.specifier).removeprefix("==")
    return found


def release(version: str) -> tuple[int, ...]:
    numbers = tuple(int(number) for number in version.split("."))
    return numbers + (0,) * (3 - len(numbers))


def test_every_lower_bound_is_the_release_that_test_lowest_installs() -> None:
    requirements = PROJECT["dependencies"] + PROJECT["optional-dependencies"]["tensorflow"]
    bounds = {r.name: str(r.specifier).removeprefix(">=") for r in map(Requirement, requirements)}
    pinned = pins("3.11")
    assert bounds.keys() == pinned.keys()
    assert {n: release(v) for n, v in bounds.items()} == {n: release(v) for n, v in pinned.items()}


def test_the_floor_on_the_newest_python_is_within_the_bounds() -> None:
    for text in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["tensorflow"]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pins("3.13")[requirement.name])


def test_the_pythons_named_are_the_pythons_admitted() -> None:
    admitted = SpecifierSet(PROJECT["requires-python"])
    named = {
        found[1]
        for text in PROJECT["classifiers"]
        if (found := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", text))
    }
    assert named == {f"3.{minor}" for minor in range(8, 20) if admitted.contains(f"3.{minor}.5")}
    checked = (ROOT / "tools" / "check_python.py").read_text(encoding="utf-8")
    lowest, highest = re.search(r"= \(3, (\d+)\), \(3, (\d+)\)", checked).groups()
    assert named == {f"3.{minor}" for minor in range(int(lowest), int(highest) + 1)}


def test_the_changelog_opens_with_the_version_in_the_package() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## \[?(\d[\w.]*)\]?", changelog, flags=re.MULTILINE)
    assert versions[0] == bert4kexue.__version__


def test_the_library_says_that_it_is_typed() -> None:
    assert (ROOT / "bert4kexue" / "py.typed").is_file()
    assert "Typing :: Typed" in PROJECT["classifiers"]
