"""Records PyTorch's losses for the test that jaxrank computes the same losses.

    python benchmarks/record_torch_losses.py tests/torch_losses.json

The file also holds data, initial weights and batches, so that the test depends on no random stream
and does not need torch.
"""

import itertools
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from jaxrank.sampling import distinct_batches

PHOTOS, FEATURES, STEPS, BATCH, HIDDEN = 40, 12, 50, 8, (16, 8)
LEARNING_RATE, WEIGHT_DECAY, MOMENTUM, MARGIN = 1e-2, 1e-2, 0.9, 1.0


class Run(NamedTuple):
    loss: str = "logistic"
    optimizer: str = "adamw"
    activation: str = "relu"
    use_layernorm: bool = False
    schedule: str = "constant"
    weight_decay: float = WEIGHT_DECAY


class Work(NamedTuple):
    """Data, batches and initial weights of a run."""

    features: np.ndarray
    pairs: np.ndarray
    preference: np.ndarray
    batches: np.ndarray
    weights: list[np.ndarray]

    def recorded(self) -> dict[str, Any]:
        return {
            name: [w.tolist() for w in value] if name == "weights" else value.tolist()
            for name, value in self._asdict().items()
        }


TIED = Run(weight_decay=0.1)
RUNS = {
    "margin_ranking": Run("margin_ranking"),
    "logistic": Run(),
    "sgd, gelu": Run(optimizer="sgd", activation="gelu"),
    "cosine, tanh, layernorm": Run(activation="tanh", use_layernorm=True, schedule="cosine"),
}
ACTIVATIONS = {"relu": torch.nn.ReLU, "gelu": torch.nn.GELU, "tanh": torch.nn.Tanh}


def main(path: str) -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((PHOTOS, FEATURES)).astype(np.float32)
    pairs = np.stack([rng.permutation(PHOTOS)[:2] for _ in range(60)])
    preference = rng.choice([0.1, 0.25, 0.5, 0.75, 0.9], size=60).astype(np.float32)
    batches = np.stack([rng.permutation(60)[:BATCH] for _ in range(STEPS)])
    work = Work(features, pairs, preference, batches, first_weights(rng, (FEATURES, *HIDDEN, 1)))
    tied = tied_work()
    losses, weights = train(TIED, tied)
    recorded = {
        "torch": torch.__version__,
        **work.recorded(),
        "learning_rate": LEARNING_RATE,
        "weight_decay": WEIGHT_DECAY,
        "momentum": MOMENTUM,
        "margin": MARGIN,
        "runs": {
            name: run._asdict() | {"losses": train(run, work)[0]} for name, run in RUNS.items()
        },
        "tied": tied.recorded()
        | TIED._asdict()
        | {"losses": losses, "trained": {name: w.tolist() for name, w in weights.items()}},
    }
    Path(path).write_text(json.dumps(recorded) + "\n")


def first_weights(rng: np.random.Generator, widths: tuple[int, ...]) -> list[np.ndarray]:
    return [
        (rng.standard_normal((a, b)) / np.sqrt(a)).astype(np.float32)
        for a, b in itertools.pairwise(widths)
    ]


def tied_work() -> Work:
    """Work with ties: the first of four inputs, like a sharpness at its limit, ties in many pairs.

    Batches are from the sampler `distinct`, and so small that for some unit the input ties in all
    its pairs.
    """
    rng = np.random.default_rng(1)
    series = np.arange(80) // 2
    features = rng.standard_normal((40, 4))[series] + 0.3 * rng.standard_normal((80, 4))
    features[:, 0] = np.where(np.repeat(rng.random(40) < 0.9, 2), 0.7, features[:, 0])
    features = features.astype(np.float32)
    pairs = np.arange(80).reshape(-1, 2)
    preference = rng.choice([0.1, 0.25, 0.75, 0.9], size=40).astype(np.float32)
    epochs = [distinct_batches(np.arange(40), 10, 4, rng) for _ in range(STEPS // 10)]
    return Work(features, pairs, preference, np.concatenate(epochs), first_weights(rng, (4, 16, 1)))


def train(run: Run, work: Work) -> tuple[list[float], dict[str, np.ndarray]]:
    """Loss before each step, and the weights after the last step."""
    features, pairs, preference, batches, weights = work
    layers: list[torch.nn.Module] = []
    if run.use_layernorm:
        layers.append(torch.nn.LayerNorm(features.shape[1], elementwise_affine=False))
    for place, weight in enumerate(weights):
        linear = torch.nn.Linear(*weight.shape)
        linear.weight.data = torch.tensor(weight.T.copy())
        linear.bias.data.zero_()
        layers += [linear] + ([ACTIVATIONS[run.activation]()] if place < len(weights) - 1 else [])
    model = torch.nn.Sequential(*layers)
    if run.optimizer == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(
            model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=run.weight_decay
        )
    else:
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=LEARNING_RATE, weight_decay=run.weight_decay
        )
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS)
    x, p = torch.tensor(features), torch.tensor(preference)
    losses = []
    for rows in batches:
        target = p[rows]
        score_a = model(x[pairs[rows, 0]])[:, 0]
        score_b = model(x[pairs[rows, 1]])[:, 0]
        if run.loss == "margin_ranking":
            y = torch.sign(target - 0.5)
            used = y != 0  # a preference of one half has no direction
            value = torch.nn.functional.margin_ranking_loss(
                score_a[used], score_b[used], y[used], margin=MARGIN
            )
        else:
            value = torch.nn.functional.binary_cross_entropy_with_logits(score_a - score_b, target)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if run.schedule == "cosine":
            cosine.step()
        losses.append(value.item())
    return losses, {name: p.detach().numpy() for name, p in model.named_parameters()}


if __name__ == "__main__":
    main(sys.argv[1])
