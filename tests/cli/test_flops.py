"""`bert4kexue flops` prints the post's numbers."""

from __future__ import annotations

import json
import math

import pytest

from bert4kexue.analysis import flops
from bert4kexue.cli import main
from bert4kexue.cli.flops_bench import draw_shares, told
from bert4kexue.models.layer_times import LayerTimes, measure_layers, measured_crossovers

BASE = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "vocab_size": 21128,
}


def test_the_table_holds_shares_and_crossovers(tmp_path, capsys):
    path = tmp_path / "bert_config.json"
    path.write_text(json.dumps(BASE), encoding="utf-8")
    assert main(["flops", str(path), "--length", "128", "4096"]) == 0
    printed = capsys.readouterr().out
    for words in ("from 1,537 tokens", "from 4,609", "from 65"):
        assert words in printed
    row = next(line for line in printed.splitlines() if line.startswith("core"))
    assert row.split()[1:] == [f"{12 * 2 * n * n * 768 / 1e6:,.2f}" for n in (128, 4096)]
    assert main(["flops", str(tmp_path), "--decode", "--length", "10"]) == 0
    assert "one step more" in capsys.readouterr().out


def test_a_config_that_says_too_little_is_told(tmp_path, capsys):
    path = tmp_path / "bert_config.json"
    path.write_text("{}", encoding="utf-8")
    assert main(["flops", str(path)]) == 2
    assert "the config has no num_attention_heads" in capsys.readouterr().err


SMALL = {**BASE, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "bert_config.json"
    path.write_text(json.dumps(SMALL), encoding="utf-8")
    return path


@pytest.mark.parametrize("options", [[], ["--attention", "performer", "--features", "5"]])
def test_the_bench_times_real_layers_beside_the_formula(options, small, tmp_path, capsys):
    stored = tmp_path / "layers.json"
    words = ["flops", "bench", str(small), "--length", "4", "16", "--store", str(stored)]
    assert main([*words, "--least-seconds", "0.001", *options]) == 0
    printed = capsys.readouterr().out
    result = json.loads(stored.read_text(encoding="utf-8"))
    assert [row["length"] for row in result["rows"]] == [4, 16]
    shape = flops.from_config(SMALL)
    for row in result["rows"]:
        assert row["repetitions"] >= 3
        assert min(v for k, v in row.items() if k not in ("length", "repetitions")) > 0
        line = next(x for x in printed.splitlines() if x.split()[:1] == [str(row["length"])])
        share = 100 * flops.core_share(shape, row["length"])
        assert line.split()[-3] == f"{share:.1f}"
        assert line.split()[-2] == f"{100 * row['core'] / row['layer']:.1f}"
    assert set(result["measured"]) == set(result["predicted"])
    assert result["predicted"]["linear_cheaper"] == (11 if options else 5)


def timed(length, **seconds):
    parts = dict.fromkeys(("projections", "products", "core", "feed_forward", "layer"), 1.0)
    return LayerTimes(
        length, **{**parts, "linear_core": 1.0, "linear_layer": 1.0, **seconds}, repetitions=3
    )


def test_crossovers_by_the_clock_lie_where_the_times_cross():
    """A core of n^2 / 4096 and a rest of n cross at 4096, measured there or only around it."""
    rows = [
        timed(n, core=n * n / 4096, layer=n * n / 4096 + n, feed_forward=1e-9, linear_layer=1e9)
        for n in (1024, 2048, 8192)
    ]
    found = measured_crossovers(rows)
    assert found["quadratic_over_rest"] == pytest.approx(4096)
    assert found["attention_over_feed_forward"] == 0.0
    assert found["linear_cheaper"] == math.inf
    assert told(0.0, 1024, 8192) == "below 1,024"
    assert told(math.inf, 1024, 8192) == "above 8,192"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--length", "0"], "length must be a whole number of 1 or more, got 0"),
        (["--batch", "0"], "batch must be a whole number of 1 or more, got 0"),
        (["--decode"], "leave --decode out"),
        (["--backward"], "leave --backward out"),
        (["--causal"], "leave --causal out"),
        (["--features", "9"], "elu1, has as many as a head has channels, 4"),
        (["--attention", "performer", "--features", "0"], "features must be a whole number"),
        (["--store", "no/such/folder.json"], "its folder does not exist: make it first"),
    ],
)
def test_what_the_bench_cannot_time_is_told(options, message, small, capsys):
    assert main(["flops", "bench", str(small), "--least-seconds", "0.001", *options]) == 2
    assert message in capsys.readouterr().err


def test_layers_that_are_not_timed_are_told():
    sizes = {"layers": 1, "hidden": 8, "heads": 2, "feed_forward": 16}
    for change in ({"gated_unit": True}, {"cross_attention": True}, {"gated_feed_forward": True}):
        with pytest.raises(ValueError, match="only blocks of self-attention"):
            measure_layers(flops.Shape(**{**sizes, **change}), [4])
    with pytest.raises(ValueError, match="without a feed-forward is not timed"):
        measure_layers(flops.Shape(**{**sizes, "feed_forward": 0}), [4])
    with pytest.raises(ValueError, match="no length to measure"):
        measure_layers(flops.Shape(**sizes), [])


def test_words_that_are_no_command_are_told(small, capsys):
    assert main(["flops", "measure", str(small)]) == 2
    assert "one config, after `bench` or alone, not 'measure" in capsys.readouterr().err
    assert main(["flops", str(small), "--store", "x.json"]) == 2
    assert "say bench first" in capsys.readouterr().err


def test_the_picture_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    rows = [timed(n, core=n / 100.0, layer=n / 50.0) for n in (16, 64)]
    draw_shares(flops.from_config(SMALL), rows, tmp_path / "shares.png")
    assert (tmp_path / "shares.png").read_bytes()[:4] == b"\x89PNG"
