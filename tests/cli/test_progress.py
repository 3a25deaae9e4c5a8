"""The bar of what takes long."""

from __future__ import annotations

import io
import sys

import pytest

from bert4kexue.cli.progress import train_with_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Run:
    """Three steps, of which the second reports."""

    def __init__(self, error=None):
        self.error = error

    def train(self, report, watch):
        for step in watch(range(1, 4), 3):
            if step == 2:
                report(step, {"loss": 0.5})
            if step == 3 and self.error:
                raise self.error


def line(step, values):
    return f"{step} {values['loss']}"


def test_a_log_file_holds_the_lines_alone(capsys):
    train_with_bar(Run(), line)
    assert capsys.readouterr() == ("2 0.5\n", "")


def test_a_terminal_shows_a_bar_that_gives_way_to_the_lines(capsys, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(sys, "stdout", terminal)
    train_with_bar(Run(), line)
    shown = terminal.getvalue()
    assert "\rsteps [##########" in shown
    assert f"\r{'':79}\r2 0.5\n" in shown
    assert shown.endswith("] 100%, 0 s left \n")


def test_an_error_begins_on_a_line_of_its_own(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with pytest.raises(ValueError, match="nan"):
        train_with_bar(Run(ValueError("nan")), line)
    assert terminal.getvalue().rstrip(" ").endswith("\n")
