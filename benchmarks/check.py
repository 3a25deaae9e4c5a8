"""Run the benchmarks that expected.json names and say whether the README's claims still hold.

    python benchmarks/check.py                       every benchmark
    python benchmarks/check.py bench_tokenizer.py    one of them

expected.json holds, for each script, the arguments it is run with and its claims: the dotted name
of a number in the JSON object that the script prints last when called with `--json`, the value that
was measured when the claim was made, and the limit (`at_least` or `at_most`) that the claim stands
on. Claims are ratios to a peer timed in the same interleaved run, and so hold on other machines.
Exit status: 0 all hold, 1 some do not.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent


def look_up(result: dict[str, Any], name: str) -> float:
    """The number under a dotted name: `seconds.ours` is `result["seconds"]["ours"]`."""
    value: Any = result
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            raise SystemExit(f"the benchmark printed no {name!r}; it printed {sorted(result)}")
        value = value[part]
    return float(value)


def compare(name: str, value: float, claim: dict[str, float]) -> tuple[bool, str]:
    """Whether the claim holds for the value, and the line that says so."""
    limits = claim.keys() & {"at_least", "at_most"}
    if len(limits) != 1:
        raise SystemExit(f"{name}: a claim has either at_least or at_most, this one has {claim}")
    (limit,) = limits
    bound = claim[limit]
    holds = value >= bound if limit == "at_least" else value <= bound
    words = limit.replace("_", " ")
    verdict = "holds" if holds else "DOES NOT HOLD"
    return holds, f"  {name}: {value:g} ({words} {bound:g}, was {claim['measured']:g}) {verdict}"


def run(script: str, arguments: list[str]) -> dict[str, Any]:
    """The JSON object that a benchmark prints last."""
    command = [sys.executable, str(FOLDER / script), *arguments, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", check=False)
    if done.returncode:
        raise SystemExit(f"{script} failed with exit status {done.returncode}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Run and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scripts", nargs="*", help="names from expected.json (default: all)")
    arguments = parser.parse_args()
    expected = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
    unknown = set(arguments.scripts) - expected.keys()
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: not in expected.json, {sorted(expected)} are")
    failed = 0
    for script in arguments.scripts or expected:
        entry = expected[script]
        print(script, *entry["arguments"], flush=True)
        result = run(script, entry["arguments"])
        for name, claim in entry["claims"].items():
            holds, line = compare(name, look_up(result, name), claim)
            print(line, flush=True)
            failed += not holds
    if failed:
        sys.exit(f"{failed} of the claims do not hold here")


if __name__ == "__main__":
    main()
