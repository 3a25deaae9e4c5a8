"""pythae's VAE over perceptrons of given weights: what its oracle and its benchmark share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pythae.models import VAE, VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder

Pair = tuple[np.ndarray, np.ndarray]


def linear(kernel: np.ndarray, bias: np.ndarray) -> torch.nn.Linear:
    """A layer with a kernel (in, out)."""
    layer = torch.nn.Linear(*kernel.shape)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(kernel.T))
        layer.bias.copy_(torch.tensor(bias))
    return layer


class Encoder(BaseEncoder):
    """Hidden layers with tanh, then mean and log variance."""

    def __init__(self, hidden: Sequence[Pair], mean: Pair, log_variance: Pair) -> None:
        super().__init__()
        self.hidden = torch.nn.ModuleList(linear(*pair) for pair in hidden)
        self.mean, self.log_variance = linear(*mean), linear(*log_variance)

    def forward(self, x):
        """pythae's names for the two."""
        for layer in self.hidden:
            x = torch.tanh(layer(x))
        return ModelOutput(embedding=self.mean(x), log_covariance=self.log_variance(x))


class Decoder(BaseDecoder):
    """Hidden layers with tanh, then probabilities ("bce") or means ("mse")."""

    def __init__(self, layers: Sequence[Pair], loss: str) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(linear(*pair) for pair in layers)
        self.loss = loss

    def forward(self, z):
        """pythae's name for it."""
        *hidden, last = self.layers
        for layer in hidden:
            z = torch.tanh(layer(z))
        x = last(z)
        return ModelOutput(reconstruction=torch.sigmoid(x) if self.loss == "bce" else x)


def model(weights: Sequence[np.ndarray], layers: int, loss: str) -> VAE:
    """The VAE of kernels and biases in Keras's order, with so many hidden layers on each side."""
    pairs = list(zip(weights[::2], weights[1::2], strict=True))
    width, latent = pairs[0][0].shape[0], pairs[layers][0].shape[1]
    config = VAEConfig(input_dim=(width,), latent_dim=latent, reconstruction_loss=loss)
    encoder = Encoder(pairs[:layers], pairs[layers], pairs[layers + 1])
    return VAE(config, encoder, Decoder(pairs[layers + 2 :], loss)).eval()
