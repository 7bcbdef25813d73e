"""Records what PyTorch computes for the test of equal losses; torch is needed only here.

    python benchmarks/record_torch_losses.py tests/torch_losses.json

The file holds data, first weights and batches too, so that the test depends on no random stream.
"""

import itertools
import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

PHOTOS, FEATURES, STEPS, BATCH, HIDDEN = 40, 12, 50, 8, (16, 8)
LEARNING_RATE, WEIGHT_DECAY, MOMENTUM, MARGIN = 1e-2, 1e-2, 0.9, 1.0


class Run(NamedTuple):
    loss: str = "logistic"
    optimizer: str = "adamw"
    activation: str = "relu"
    use_layernorm: bool = False
    schedule: str = "constant"


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
    widths = (FEATURES, *HIDDEN, 1)
    weights = [
        (rng.standard_normal((a, b)) / np.sqrt(a)).astype(np.float32)
        for a, b in itertools.pairwise(widths)
    ]
    recorded = {
        "torch": torch.__version__,
        "features": features.tolist(),
        "pairs": pairs.tolist(),
        "preference": preference.tolist(),
        "batches": batches.tolist(),
        "weights": [w.tolist() for w in weights],
        "learning_rate": LEARNING_RATE,
        "weight_decay": WEIGHT_DECAY,
        "momentum": MOMENTUM,
        "margin": MARGIN,
        "runs": {
            name: run._asdict()
            | {"losses": train(run, features, pairs, preference, batches, weights)}
            for name, run in RUNS.items()
        },
    }
    Path(path).write_text(json.dumps(recorded) + "\n")


def train(
    run: Run,
    features: np.ndarray,
    pairs: np.ndarray,
    preference: np.ndarray,
    batches: np.ndarray,
    weights: list[np.ndarray],
) -> list[float]:
    layers: list[torch.nn.Module] = []
    if run.use_layernorm:
        layers.append(torch.nn.LayerNorm(FEATURES, elementwise_affine=False))
    for place, weight in enumerate(weights):
        linear = torch.nn.Linear(*weight.shape)
        linear.weight.data = torch.tensor(weight.T.copy())
        linear.bias.data.zero_()
        layers += [linear] + ([ACTIVATIONS[run.activation]()] if place < len(weights) - 1 else [])
    model = torch.nn.Sequential(*layers)
    if run.optimizer == "sgd":
        optimizer: torch.optim.Optimizer = torch.optim.SGD(
            model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY
        )
    else:
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY
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
    return losses


if __name__ == "__main__":
    main(sys.argv[1])
