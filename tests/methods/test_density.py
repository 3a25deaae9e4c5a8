"""The VAE's log p(x) against a model whose density is known, and against integrals."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from _linear_gaussian import LinearGaussian

from bert4kexue.methods.density import VAE
from bert4kexue.methods.density_likelihoods import (
    BernoulliLikelihood,
    DiscretizedLogisticLikelihood,
    GaussianLikelihood,
)
from bert4kexue.methods.density_models import mlp_vae, text_vae


@pytest.fixture(autouse=True)
def seeded():
    """The order of rows in `fit` is drawn from Keras's global seed."""
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="module")
def known():
    return LinearGaussian()


@pytest.fixture(scope="module")
def binary():
    """A small Bernoulli model after a few steps, and its data."""
    x = (np.random.default_rng(0).random((96, 12)) < 0.3).astype("float32")
    keras.utils.set_random_seed(0)
    vae = mlp_vae((12,), 3, BernoulliLikelihood(), hidden=(16,), seed=0)
    vae.compile(keras.optimizers.Adam(1e-2))
    vae.fit(x, epochs=4, verbose=0)
    return vae, x


def randomize(vae, scale, seed=0):
    random = np.random.default_rng(seed)
    for weight in vae.decoder.weights:
        weight.assign(random.normal(size=weight.shape) * scale)


# --- the known density ---------------------------------------------------------------------------


def test_error_bars_cover_the_truth_at_the_nominal_rate(known):
    x = known.draw(400)
    found = known.vae.log_prob(x, 2000, chunk=20_000)
    deviations = (found.log_prob - known.log_prob(x)) / found.standard_error
    # 400 rows: the share within 1.96 scatters by 0.011; four of that, and some bias, are allowed.
    assert abs((np.abs(deviations) < 1.96).mean() - 0.95) < 0.045
    assert abs((np.abs(deviations) < 1).mean() - 0.683) < 0.1
    assert abs(found.mean - known.log_prob(x).mean()) < 4 * found.mean_error + 1e-3


def test_the_gap_of_one_draw_is_the_divergence(known):
    x = known.draw(2000, seed=3)
    found = known.vae.log_prob(x, 1)
    gaps = known.log_prob(x) - found.log_prob
    assert abs(gaps.mean() - known.gap()) < 5 * gaps.std() / np.sqrt(len(x))
    assert np.isnan(found.standard_error).all()


def test_the_bound_rises_with_the_draws_and_stays_below_the_truth(known):
    x = known.draw(300, seed=4)
    found = known.vae.log_prob(x, 1000)
    assert (np.diff(found.curve, axis=0) > -1e-9).all()
    means = found.curve.mean(axis=1)
    assert means[0] < means[-1] - 0.3
    assert means[-1] < known.log_prob(x).mean() + 4 * found.mean_error
    np.testing.assert_array_equal(found.curve[-1], found.log_prob)
    # The first is the mean of single weights: the plain bound, whatever was drawn later.
    few = known.vae.log_prob(x, 10).curve[0].mean()
    assert abs(few - means[0]) < 0.1


def test_the_exact_posterior_has_no_error():
    exact = LinearGaussian(orthogonal=True)
    x = exact.draw(20)
    found = exact.vae.log_prob(x, 50)
    np.testing.assert_allclose(found.log_prob, exact.log_prob(x), atol=1e-4)
    np.testing.assert_allclose(found.effective_samples, 50, rtol=1e-4)
    given = exact.vae.log_prob(x, 50, proposal=exact.vae.encode(x))
    np.testing.assert_array_equal(given.log_prob, found.log_prob)


def test_the_prior_agrees_with_the_encoder_and_needs_far_more_draws(known):
    x = known.draw(4, seed=6)
    prior = known.vae.log_prob(x, 100_000, proposal="prior", chunk=50_000)
    encoder = known.vae.log_prob(x, 1000)
    assert (prior.effective_samples / 100_000 < encoder.effective_samples / 1000 / 10).all()
    errors = np.hypot(prior.standard_error, encoder.standard_error)
    assert (np.abs(prior.log_prob - encoder.log_prob) < 5 * errors).all()


# --- densities are densities ---------------------------------------------------------------------


@pytest.mark.parametrize("width", [1, 2])
def test_a_low_dimensional_density_integrates_to_one(width):
    vae = mlp_vae((width,), 2, GaussianLikelihood(floor=0.05), hidden=(8,), activation="tanh")
    randomize(vae, 0.7)
    axis = np.linspace(-7, 7, 281 if width == 1 else 57)
    step = axis[1] - axis[0]
    grid = np.stack(np.meshgrid(*[axis] * width), -1).reshape(-1, width).astype("float32")
    found = vae.log_prob(grid + 1e-4, 400, proposal="prior", chunk=40_000)
    shares = np.exp(found.log_prob) * step**width
    error = np.sqrt(np.square(shares * found.standard_error).sum())
    assert abs(shares.sum() - 1) < 5 * error + 0.005
    assert error < 0.03


def test_probabilities_of_all_binary_strings_sum_to_one():
    vae = mlp_vae((4,), 2, BernoulliLikelihood(), hidden=(8,))
    randomize(vae, 1.0)
    every = ((np.arange(16)[:, None] >> np.arange(4)) & 1).astype("float32")
    found = vae.log_prob(every, 4000, proposal="prior", chunk=64_000)
    error = np.sqrt(np.square(np.exp(found.log_prob) * found.standard_error).sum())
    assert abs(np.exp(found.log_prob).sum() - 1) < 5 * error
    assert error < 0.05


def test_log_weights_are_those_of_numpy(binary):
    """One draw, everything by hand in float64."""
    vae, x = binary
    found = vae.log_prob(x[:5], 1, seed=9)
    mean, log_variance = (part.astype(float) for part in vae.encode(x[:5]))
    noise = np.stack(
        [np.random.default_rng((9, i)).standard_normal(3, np.float32) for i in range(5)]
    )
    z = mean + np.exp(log_variance / 2) * noise
    logits = vae.decode(z)[..., 0].astype(float)
    terms = x[:5] * logits - np.logaddexp(0, logits)
    prior, proposed = -0.5 * (z**2).sum(1), -0.5 * (log_variance + noise.astype(float) ** 2).sum(1)
    np.testing.assert_allclose(found.log_prob, terms.sum(1) + prior - proposed, atol=1e-4)


# --- laws of the estimate ------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 7, 50, 1000])
def test_no_chunk_changes_a_result(binary, chunk):
    vae, x = binary
    whole = vae.log_prob(x[:9], 30, chunk=10_000)
    found = vae.log_prob(x[:9], 30, chunk=chunk)
    np.testing.assert_allclose(found.log_prob, whole.log_prob, atol=1e-5)
    np.testing.assert_allclose(found.effective_samples, whole.effective_samples, rtol=1e-4)


def test_no_more_than_a_chunk_is_decoded_at_once(binary, monkeypatch):
    vae, x = binary
    seen = []
    run = vae._compiled.run
    monkeypatch.setattr(
        vae._compiled,
        "run",
        lambda name, inputs: (seen.append((name, inputs[-1])), run(name, inputs))[1],
    )
    vae.log_prob(x[:9], 30, chunk=64)
    sizes = [noise.shape[0] * noise.shape[1] for name, noise in seen if name == "weights"]
    assert sizes
    assert max(sizes) <= 64
    assert [name for name, _ in seen].count("encode") == 1, "each row is encoded once"


def test_a_row_alone_is_the_row_in_a_batch(binary):
    vae, x = binary
    alone = vae.log_prob(x[:1], 20)
    np.testing.assert_allclose(alone.log_prob, vae.log_prob(x, 20).log_prob[:1], atol=1e-5)


def test_another_seed_is_another_estimate_within_the_errors(binary):
    vae, x = binary
    a, b = (vae.log_prob(x, 500, seed=seed) for seed in (1, 2))
    apart = np.abs(a.log_prob - b.log_prob) / np.hypot(a.standard_error, b.standard_error)
    assert apart.min() > 0
    assert np.median(apart) < 1.2


# --- training ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("objective", "samples"), [("elbo", 1), ("elbo", 3), ("iwae", 5)])
def test_the_loss_is_minus_the_bound(binary, objective, samples):
    """Averaged over draws, the loss agrees with the estimate of the same number of draws."""
    vae, x = binary
    other = VAE(vae.encoder, vae.decoder, vae.likelihood, objective, samples, seed=1)
    other.compile()
    many = np.tile(x, (30, 1))
    loss = other.evaluate(many, verbose=0, batch_size=len(many))
    draws = 1 if objective == "elbo" else samples
    assert abs(loss + vae.log_prob(many, draws).mean) < 0.2


def test_training_raises_the_likelihood_and_iwae_learns_too():
    random = np.random.default_rng(0)
    x = (random.random((256, 1)) < 0.5) ^ (random.random((256, 10)) < 0.05)
    for objective, samples in (("elbo", 1), ("iwae", 4)):
        vae = mlp_vae((10,), 2, BernoulliLikelihood(), (16,), objective=objective, samples=samples)
        before = vae.log_prob(x, 50).mean
        vae.compile(keras.optimizers.Adam(2e-2))
        vae.fit(x.astype("float32"), epochs=15, verbose=0)
        assert vae.log_prob(x, 200).mean > before + 2, objective


def test_sample_weights_leave_rows_out(binary):
    vae, x = binary
    weights = np.zeros(96, "float32")
    chosen = np.argsort(x.sum(1))[48:]  # the rarer half
    weights[chosen] = 2
    many = np.tile(x, (30, 1))
    half = vae.evaluate(many, sample_weight=np.tile(weights, 30), batch_size=2880, verbose=0)
    alone = vae.evaluate(np.tile(x[chosen], (60, 1)), batch_size=2880, verbose=0)
    assert abs(half - alone) < 0.3
    assert half > vae.evaluate(many, batch_size=2880, verbose=0) + 0.5


def test_a_saved_model_is_the_same_model(binary, tmp_path):
    vae, x = binary
    vae.save(tmp_path / "vae.keras")
    again = keras.saving.load_model(tmp_path / "vae.keras")
    assert isinstance(again, VAE)
    np.testing.assert_array_equal(again.log_prob(x, 10).log_prob, vae.log_prob(x, 10).log_prob)
    before = [keras.ops.convert_to_numpy(v).copy() for v in again.trainable_variables]
    again.fit(x, epochs=1, verbose=0)  # with its optimizer
    assert any(
        not np.array_equal(old, keras.ops.convert_to_numpy(new))
        for old, new in zip(before, again.trainable_variables, strict=True)
    )


@pytest.mark.parametrize(
    "likelihood", [GaussianLikelihood(1e-2), DiscretizedLogisticLikelihood(16, -5.0)]
)
def test_likelihoods_survive_saving_with_their_choices(likelihood, tmp_path):
    vae = mlp_vae((3, 2), 2, likelihood, hidden=(4,))
    vae.save(tmp_path / "vae.keras")
    again = keras.saving.load_model(tmp_path / "vae.keras").likelihood
    assert (type(again), again.get_config()) == (type(likelihood), likelihood.get_config())


def test_texts_have_samples_and_reconstructions_that_are_ids():
    ids = np.random.default_rng(0).integers(0, 6, (32, 5)).astype("int32")
    vae = text_vae(5, 6, 2, hidden=8, embedding=4, seed=0)
    vae.compile(keras.optimizers.Adam(1e-2))
    vae.fit(ids, epochs=1, verbose=0)
    for texts in (vae.sample(4), vae.sample(4, mean=True), vae.reconstruct(ids)):
        assert texts.dtype == np.int32
        assert texts.shape[1] == 5
        vae.check(texts)


def test_samples_follow_the_model():
    known = LinearGaussian()
    drawn = known.vae.sample(20_000, seed=1)
    covariance = known.w @ known.w.T + 0.1 * np.eye(8)
    np.testing.assert_allclose(np.cov(drawn.T), covariance, atol=0.25)
    np.testing.assert_allclose(drawn.mean(0), known.b, atol=0.1)


def test_strange_data_are_less_likely():
    """Held-out rows of two clusters against rows that lie between them."""
    random = np.random.default_rng(0)
    centre = np.where(random.random((600, 1)) < 0.5, -2.0, 2.0)
    x = (centre + 0.3 * random.standard_normal((600, 4))).astype("float32")
    vae = mlp_vae((4,), 2, GaussianLikelihood(), hidden=(32,), seed=0)
    vae.compile(keras.optimizers.Adam(1e-2))
    vae.fit(x[:500], epochs=20, verbose=0)
    strange = (0.3 * random.standard_normal((100, 4)) + [2, -2, 2, -2]).astype("float32")
    ordinary, odd = (vae.log_prob(part, 100).log_prob for part in (x[500:], strange))
    assert (ordinary[:, None] > odd[None]).mean() > 0.99
