"""The command jl: the lemma's numbers, files in and out, what was enough."""

from __future__ import annotations

import numpy as np

from bert4kexue.analysis import project, smallest_dimension
from bert4kexue.cli import main

X = np.random.default_rng(0).normal(size=(15, 200)).astype("float32")


def test_dim_prints_the_posts_dimension(capsys):
    assert main(["jl", "dim", "--vectors", "100", "--eps", "0.5"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("443 dimensions")
    assert "295 dimensions: 16 ln N" in out


def test_project_writes_the_projection_of_the_seed(tmp_path, capsys):
    np.save(tmp_path / "x.npy", X)
    words = ["jl", "project", "--input", str(tmp_path / "x.npy"), "--output"]
    words += [str(tmp_path / "y.npy"), "--dimensions", "32", "--kind", "hadamard", "--seed", "5"]
    assert main(words) == 0
    assert "(15, 200) -> (15, 32) float32" in capsys.readouterr().out
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), project(X, 32, "hadamard", 5))


def test_report_prints_theory_and_what_was_enough(tmp_path, capsys):
    np.savez(tmp_path / "x.npz", x=X)
    words = ["jl", "report", "--input", str(tmp_path / "x.npz"), "--eps", "0.6", "--trials", "5"]
    assert main(words) == 0
    out = capsys.readouterr().out
    found = smallest_dimension(X, 0.6, trials=5)
    assert f"theory    {found.theory} dimensions" in out
    assert f"empirical {found.dimension} dimensions" in out
    assert main([*words, "--dimensions", "3"]) == 0
    assert "empirical above 3" in capsys.readouterr().out


def test_mistakes_are_one_line(tmp_path, capsys):
    np.savez(tmp_path / "no_x.npz", y=X)
    report = ["jl", "report", "--eps", "0.5", "--input"]
    for words, message in [
        (["jl", "dim", "--vectors", "1", "--eps", "0.5"], "2 or more vectors"),
        (["jl", "dim", "--vectors", "9", "--eps", "2"], "eps must lie in"),
        ([*report, str(tmp_path / "no_x.npz")], "not 'x'"),
        ([*report, "nowhere.npy"], "nowhere.npy"),
    ]:
        assert main(words) == 2
        assert message in capsys.readouterr().err
