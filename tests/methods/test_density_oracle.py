"""log p(x) against pythae's `get_nll`, on its weights and points."""

from __future__ import annotations

import numpy as np
import pytest
from _golden_cases import GOLDEN

from bert4kexue.methods.density_likelihoods import BernoulliLikelihood, GaussianLikelihood
from bert4kexue.methods.density_models import mlp_vae

LIKELIHOODS = {"bce": BernoulliLikelihood(), "mse": GaussianLikelihood(variance=1.0)}


@pytest.mark.parametrize("loss", LIKELIHOODS)
def test_pythae_finds_the_same_density_under_the_name_of_its_negative(loss):
    with np.load(GOLDEN / "pythae_nll.npz") as file:
        weights = [file[f"{loss}/weight_{k}"] for k in range(10)]
        x, returned = file[f"{loss}/x"], file[f"{loss}/get_nll"]
    vae = mlp_vae((12,), 3, LIKELIHOODS[loss], hidden=(8,), activation="tanh")
    vae.encoder.set_weights(weights[:6])
    vae.decoder.set_weights(weights[6:])
    found = vae.log_prob(x, 20_000, chunk=20_000)
    assert (found.effective_samples > 100).all()
    # pythae states no error: with 50,000 draws its own is less than ours.
    assert (np.abs(returned - found.log_prob) < 5 * 1.2 * found.standard_error + 1e-3).all()
    assert found.standard_error.max() < 0.05
