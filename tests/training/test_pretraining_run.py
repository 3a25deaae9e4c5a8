"""A run that is killed goes on as if nothing had happened."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from _reference import random_checkpoint
from _tiny import CONFIG

from bert4kexue.checkpoints import open_checkpoint
from bert4kexue.models import build_transformer_model
from bert4kexue.models.pretraining import build_pretrainer
from bert4kexue.training.objectives import (
    AlikePairs,
    Continuations,
    MaskedWords,
    SentencePairs,
    Windows,
)
from bert4kexue.training.plan import Plan
from bert4kexue.training.pretraining import WarmupDecay
from bert4kexue.training.records import SENTENCE, WORD
from bert4kexue.training.run import PretrainingRun, RunError, Task, plot_losses
from bert4kexue.training.special import Special

TESTS = Path(__file__).resolve().parents[1]


def documents():
    rng = np.random.default_rng(0)
    made = []
    for _ in range(20):
        ids = rng.integers(5, CONFIG["vocab_size"], 18).astype(np.uint32) | WORD
        ids[::6] |= SENTENCE
        made.append(ids)
    return made


def make_run(folder, steps=12, seed=3, only=("masked", "alike"), **options):
    """Masked words and contrast (or what is named) on a tiny RoFormer with dropout."""
    keras.utils.set_random_seed(7)
    config = {**CONFIG, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
    model, builder = build_pretrainer(config, "roformer")
    model.compile(optimizer=keras.optimizers.AdamW(WarmupDecay(1e-3, steps, 2), **options))
    special = Special(2, 3, 4, CONFIG["vocab_size"])
    rng = np.random.default_rng(1)
    rows = [(rng.integers(5, 20, 4).tolist(), [*rng.integers(5, 20, 3), 3]) for _ in range(10)]
    tasks = {
        "masked": Task(Plan(MaskedWords(Windows(documents(), 14), special), 64, 16, [seed])),
        "written": Task(Plan(Continuations(rows, special), 64, 16, [seed])),
        "alike": Task(Plan(AlikePairs(rows, special, corrupt=0.2), 64, 32, [seed]), lambda p: p),
    }
    return PretrainingRun(
        folder,
        model,
        {name: tasks[name] for name in only},
        steps=steps,
        seed=seed,
        log_every=2,
        save_every=4,
        write_checkpoint=lambda path: _write(builder, path),
    )


def _write(builder, path):
    path.mkdir(exist_ok=True)
    builder.save_weights_as_checkpoint(path / "bert_model.ckpt")


def weights_of(folder):
    with open_checkpoint(folder / "model" / "bert_model.ckpt") as checkpoint:
        return {name: np.array(checkpoint.read(name)) for name in checkpoint.names()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    make_run(folder).train()
    return folder


class Killed(BaseException):
    """Stands for what no code can answer to."""


@pytest.mark.parametrize("at", [1, 7])
def test_a_killed_run_ends_with_the_same_weights_and_curve(undisturbed, tmp_path, at):
    run = make_run(tmp_path)
    train = run._train_on

    def dying(batch):
        if run.step == at:
            raise Killed
        return train(batch)

    run._train_on = dying
    with pytest.raises(Killed):
        run.train()
    again = make_run(tmp_path)
    again.train()
    expected = weights_of(undisturbed)
    for name, value in weights_of(tmp_path).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
    curves = [(f / "loss.csv").read_text(encoding="utf-8") for f in (undisturbed, tmp_path)]
    assert curves[0] == curves[1]


@pytest.mark.parametrize(
    ("error", "options"),
    [(Killed, {}), (OSError, {"use_ema": True, "ema_momentum": 0.5})],
    ids=["killed", "full disk"],
)
def test_a_run_stopped_while_its_last_checkpoint_is_written_writes_it_again(
    tmp_path, error, options
):
    options = {"only": ["masked"], **options}
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    make_run(whole, 6, **options).train()
    run = make_run(stopped, 6, **options)
    write = run.write_checkpoint

    def failing(path):
        if run.step == 6:
            (path / "bert_model.ckpt.index").unlink()
            raise error
        write(path)

    run.write_checkpoint = failing
    with pytest.raises(error):
        run.train()
    again = make_run(stopped, 6, **options)
    again._train_on = None
    again.train()
    expected = weights_of(whole)
    for name, value in weights_of(stopped).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_a_checkpoint_that_was_removed_is_written_again(tmp_path):
    run = make_run(tmp_path)
    run.step = run.steps
    run.save()
    expected = weights_of(tmp_path)
    shutil.rmtree(tmp_path / "model")
    make_run(tmp_path).train()
    for name, value in weights_of(tmp_path).items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_a_folder_begun_anew_forgets_which_step_its_checkpoint_is_of(tmp_path):
    run = make_run(tmp_path)
    run.save()
    assert (tmp_path / "model.json").exists()
    (tmp_path / "state.npz").unlink()
    assert not run.resume()
    assert not (tmp_path / "model.json").exists()


_SCRIPT = """\
import sys
sys.path.insert(0, sys.argv[2])
import test_pretraining_run as module
from pathlib import Path
module.make_run(Path(sys.argv[1]), 400, only=("masked", "written", "alike")).train()
"""


@pytest.mark.long
def test_ten_kills_at_random_moments_change_nothing(tmp_path):
    def start(folder):
        paths = os.pathsep.join([str(TESTS), str(TESTS / "training"), str(TESTS.parent)])
        environment = os.environ | {"PYTHONPATH": paths}
        command = [sys.executable, "-c", _SCRIPT, str(folder), str(TESTS / "training")]
        return subprocess.Popen(command, env=environment)

    assert start(tmp_path / "whole").wait() == 0
    rng = np.random.default_rng()
    kills = 0
    while kills < 10:
        process = start(tmp_path / "killed")
        saved = tmp_path / "killed" / "state.npz"
        deadline = time.monotonic() + 120
        before = saved.stat().st_mtime_ns if saved.exists() else 0
        while process.poll() is None and time.monotonic() < deadline:
            if saved.exists() and saved.stat().st_mtime_ns != before:
                break
            time.sleep(0.01)
        time.sleep(float(rng.random()) * 0.5)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
        process.wait()
        kills += 1
    assert start(tmp_path / "killed").wait() == 0
    assert kills == 10, f"the run ended after {kills} kills: make it longer"
    expected = weights_of(tmp_path / "whole")
    for name, value in weights_of(tmp_path / "killed").items():
        np.testing.assert_array_equal(value, expected[name], err_msg=name)


def test_other_settings_are_refused(undisturbed):
    with pytest.raises(RunError, match="seed was 3 and is 4"):
        make_run(undisturbed, seed=4)


def test_a_finished_run_does_nothing(undisturbed):
    def written():
        return {p: p.stat().st_mtime_ns for p in undisturbed.rglob("*") if p.is_file()}

    before = written()
    make_run(undisturbed).train()
    changed = {p.name for p, time in written().items() if time != before.get(p)}
    assert changed <= {"loss.csv"}


def test_settings_of_a_run_that_has_saved_nothing_may_change(tmp_path):
    make_run(tmp_path, seed=3)
    make_run(tmp_path, seed=4).save()
    assert json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))["seed"] == 4
    with pytest.raises(RunError, match="seed was 4 and is 3"):
        make_run(tmp_path, seed=3)


def test_a_damaged_state_is_told(tmp_path):
    run = make_run(tmp_path)
    run.save()
    del run
    path = tmp_path / "state.npz"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(RunError, match="damaged"):
        make_run(tmp_path).train()


def test_a_full_disk_keeps_the_last_save(tmp_path, monkeypatch):
    run = make_run(tmp_path)
    run._train_on = lambda batch: 1.0
    run.save()
    before = (tmp_path / "state.npz").read_bytes()

    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        run.train()
    assert (tmp_path / "state.npz").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    run = make_run(tmp_path)
    run._train_on = lambda batch: float("nan")
    with pytest.raises(RunError, match=r"is nan at step 0: lower .* nothing has been saved yet"):
        run.train()
    run.save()
    with pytest.raises(RunError, match=r"the last save is kept, .* need another folder"):
        run.train()


def test_shares_that_leave_nothing_to_draw_are_told(tmp_path):
    run = make_run(tmp_path, only=("alike",))  # its share grows from 0
    with pytest.raises(RunError, match=r"at 0% .* are \[0.0\]: .* one must be above 0"):
        run.train()


def test_the_batches_that_are_left_can_be_watched(tmp_path):
    told = []

    def watch(batches, left):
        told.append(left)
        for batch in batches:
            yield batch
            told.append(left - len(told))

    make_run(tmp_path, 3, only=["masked"]).train(watch=watch)
    assert told == [3, 2, 1, 0]


def test_averages_are_what_is_written_and_training_goes_on_unaveraged(tmp_path):
    run = make_run(tmp_path, steps=4, only=("written",), use_ema=True, ema_momentum=0.5)
    train, seen = run._train_on, []

    def table():
        found = [keras.ops.convert_to_numpy(v) for v in run.model.trainable_variables]
        return next(np.array(v) for v in found if v.shape == embeddings_shape)

    def watched(batch):
        loss = train(batch)
        seen.append(table())
        return loss

    embeddings_shape = (CONFIG["vocab_size"], CONFIG["hidden_size"])
    run._train_on = watched
    run.train()
    average = seen[0]
    for weights in seen[1:]:
        average = 0.5 * average + 0.5 * weights
    written = weights_of(tmp_path)["bert/embeddings/word_embeddings"]
    np.testing.assert_allclose(written, average, atol=1e-6)
    assert np.abs(average - seen[-1]).max() > 1e-4
    np.testing.assert_array_equal(table(), seen[-1])


def test_every_epoch_hides_other_words_of_the_same_row(tmp_path):
    run = make_run(tmp_path, only=("masked",))
    run.steps = 2 * run.tasks["masked"].plan.steps_per_epoch
    hidden = [batch for _, batch in run._batches()]
    places = {}
    for batch in hidden:
        rows = batch["token_ids"].copy()
        for row, at, ids, real in zip(
            rows, batch["positions"], batch["labels"], batch["weights"] > 0, strict=True
        ):
            row[at[real]] = ids[real]
            if real.any():
                places.setdefault(tuple(row), []).append(tuple(sorted(at[real])))
    assert all(len(found) == 2 for found in places.values()), "an epoch holds every row once"
    other = sum(first != second for first, second in places.values())
    assert other > 0.8 * len(places)


def test_the_checkpoint_is_an_ordinary_one(undisturbed):
    model = build_transformer_model(
        CONFIG, undisturbed / "model" / "bert_model.ckpt", model="roformer", with_pool="linear"
    )
    assert model.output_shape == (None, CONFIG["hidden_size"])


def test_the_curve_is_drawn(undisturbed, tmp_path):
    pytest.importorskip("matplotlib")
    plot_losses(undisturbed / "loss.csv", tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_packed_documents_do_not_see_each_other():
    config = {**CONFIG, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model, _ = build_pretrainer(config, "roformer", ["packed", "bidirectional"])
    rng = np.random.default_rng(0)
    a, b = (rng.integers(5, CONFIG["vocab_size"], n).tolist() for n in (4, 3))
    ids = np.array([[*a, *b, 0]], "int32")
    packed = model.bodies["packed"]([ids, 0 * ids, np.array([[1] * 4 + [2] * 3 + [0]])])[0]
    packed = keras.ops.convert_to_numpy(packed)[0]
    for row, part in ((a, packed[:4]), (b, packed[4:7])):
        alone = np.array([row], "int32")
        hidden = model.bodies["bidirectional"]([alone, 0 * alone])[0]
        np.testing.assert_allclose(keras.ops.convert_to_numpy(hidden)[0], part, atol=1e-5)


def test_packed_rows_need_relative_positions():
    with pytest.raises(ValueError, match="packed rows need relative positions"):
        build_pretrainer(CONFIG, "bert", ["packed"])


def test_sentence_pairs_train_with_the_next_sentence_head(tmp_path):
    keras.utils.set_random_seed(0)
    model, builder = build_pretrainer(CONFIG, "bert", ["bidirectional", "unilm"], with_nsp=True)
    builder.load_weights_from_checkpoint(random_checkpoint(CONFIG, "bert", seed=1))
    model.compile(optimizer=keras.optimizers.AdamW(1e-3))
    special = Special(2, 3, 4, CONFIG["vocab_size"])
    plan = Plan(SentencePairs(Windows(documents(), 13), special), 128, 16, [0])
    run = PretrainingRun(
        tmp_path, model, {"next": Task(plan)}, steps=4, seed=0, log_every=2, save_every=4
    )
    run.train()
    assert run.step == 4
    rows = (tmp_path / "loss.csv").read_text(encoding="utf-8").splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "2", "4"]


def test_tensorboard_reads_the_log(undisturbed):
    tensorflow = pytest.importorskip("tensorflow")
    (path,) = (undisturbed / "tensorboard").iterdir()
    found = {}
    for event in tensorflow.compat.v1.train.summary_iterator(str(path)):
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value.simple_value))
    rows = (undisturbed / "loss.csv").read_text(encoding="utf-8").splitlines()
    assert [step for step, _ in found["learning_rate"]] == [int(r.split(",")[0]) for r in rows[1:]]
    assert set(found) == {"learning_rate", "masked", "alike"}
    assert json.loads((undisturbed / "run.json").read_text(encoding="utf-8"))["steps"] == 12
