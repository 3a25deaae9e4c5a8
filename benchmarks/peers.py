"""Peers of a comparison, each in a process of its own, asked in turn.

A script starts itself with `--serve NAME` in the Python that has the peer's packages, answers there
with :func:`serve`, and asks with :class:`Peer`: one JSON object a line, both ways. So no library
loads beside another, and what disturbs the machine falls on all of them alike.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


class Peer:
    """A process that answers requests."""

    def __init__(self, command: Sequence[str], preload: str | None = None) -> None:
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        if preload:
            environment["LD_PRELOAD"] = preload
        self.process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            env=environment,
        )

    def ask(self, **request: Any) -> Any:
        """The answer to a request."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the peer {self.process.args} ended: its error is above")
        return json.loads(line)

    def close(self) -> None:
        """End it."""
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


def serve(make: Callable[[], Callable[..., Any]]) -> None:
    """Make what answers, and answer requests until there are none."""
    out = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    answer = make()
    for line in sys.stdin:
        out.write(json.dumps(answer(**json.loads(line))) + "\n")


def timed(
    call: Callable[[], Any], times: int, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Seconds of `times` calls by a clock, after one that is not counted."""
    call()
    seconds = []
    for _ in range(times):
        begun = clock()
        call()
        seconds.append(clock() - begun)
    return seconds


def mkl_preload(folder: str) -> str | None:
    """A library that tells MKL it runs on Intel's processors; None, said, without a C compiler.

    MKL takes a slow path on others: preloaded, this doubles the speed of torch on AMD's.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        print("no C compiler: torch runs without the MKL preload", file=sys.stderr)
        return None
    source, library = Path(folder, "mkl.c"), Path(folder, "mkl.so")
    source.write_text(
        "int mkl_serv_intel_cpu_true(void) { return 1; }\n", encoding="utf-8", newline="\n"
    )
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    return str(library)
