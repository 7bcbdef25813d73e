"""Strategies of a search, compared with a plain loop of Optuna and PyTorch on simulated sets.

    python benchmarks/strategies.py --sets=8 --experiments=48     # half an hour on two cores

Each set has 1,000 pairs and 64 columns; five folds, one seed, 27 epochs in batches of 32, as in
sweeps.py. The loop is a typical script. Optuna's TPE suggests one configuration at a time, which is
trained in each fold with tensors in memory, fused AdamW and one thread (two are slower for networks
this small). The loop reports to Optuna the mean validation accuracy of the folds, each at its best
epoch. The best configuration is trained again on all pairs, for the median of its best epochs.
jaxrank has the same folds, space and number of configurations, and also trains its references.

Each run is a process of its own. Seconds are from its launch until the chosen model is trained.
jaxrank's first search compiles all programs; later searches find some of them in the cache. True
accuracy is the chosen model's on 20,000 new pairs. Intervals are Student's t over sets.
"""

import argparse
import json
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from sweeps import GRID, NUM_NEW_PAIRS, NUM_PAIRS, draw_set, true_accuracy

LOOP = "Optuna and PyTorch"
STRATEGIES = ("random", "sobol", "tpe")
WIDTHS = {"": [], "32": [32], "64,32": [64, 32], "128,64": [128, 64]}
SPACE: dict[str, Any] = {
    "learning_rate": "1e-5..1e-2:log",
    "dropout": "0..0.6",
    "weight_decay": "1e-3..0.3:log",
    "mlp_hidden_dims": list(WIDTHS),
}
FOLDS, EPOCHS, BATCH, MARGIN = 5, 27, 32, 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=8)
    parser.add_argument("--experiments", type=int, default=48)
    parser.add_argument("--child", nargs=3, metavar=("NAME", "SEED", "LAUNCHED"))
    given = parser.parse_args()
    if given.child:
        name, seed, launched = given.child
        run = plain_loop if name == LOOP else jaxrank_search
        seconds, accuracy = run(name, int(seed), given.experiments, float(launched))
        print(json.dumps([seconds, 100 * accuracy]))
        return
    rows: dict[str, list[list[float]]] = {name: [] for name in (LOOP, *STRATEGIES)}
    with tempfile.TemporaryDirectory() as cache:
        for seed in range(given.sets):
            for name, mine in rows.items():
                mine.append(child(name, seed, given.experiments, cache))
                print(f"set {seed}, {name}: {mine[-1]}", flush=True)
    report(rows)


def child(name: str, seed: int, experiments: int, cache: str) -> list[float]:
    words = [f"--experiments={experiments}", "--child", name, str(seed), str(time.time())]
    environment = os.environ | {"XDG_CACHE_HOME": cache}
    done = subprocess.run(
        [sys.executable, __file__, *words],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def report(rows: dict[str, list[list[float]]]) -> None:
    loop = np.array(rows[LOOP])
    print(
        "\n| | seconds, first | seconds, median | times the loop's | true accuracy | against it |"
    )
    print("|---|---|---|---|---|---|")
    for name, mine in rows.items():
        ours = np.array(mine)
        ratios = ours[:, 0] / loop[:, 0]
        off = ours[:, 1] - loop[:, 1]
        half = 0.0
        if len(off) > 1:
            half = stats.t.ppf(0.975, len(off) - 1) * off.std(ddof=1) / np.sqrt(len(off))
        print(
            f"| {name} | {ours[0, 0]:.1f} | {np.median(ours[:, 0]):.1f} | "
            f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f}) | "
            f"{ours[:, 1].mean():.2f} | {off.mean():+.2f} ({off.mean() - half:+.2f} to "
            f"{off.mean() + half:+.2f}) |"
        )


def jaxrank_search(
    strategy: str, seed: int, experiments: int, launched: float
) -> tuple[float, float]:
    from jaxrank import devices

    devices.split_cpu_into_devices()
    import jaxrank

    logging.getLogger("jaxrank").setLevel(logging.ERROR)
    pairs, features = draw_set(seed, NUM_PAIRS)
    how = GRID | {"space": SPACE, "num_seeds": 1, "strategy": strategy, "seed": seed}
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder, "w")
        jaxrank.search(pairs, features, workdir=workdir, num_experiments=experiments, **how)
        return time.time() - launched, true_accuracy(workdir, seed)


def plain_loop(name: str, seed: int, experiments: int, launched: float) -> tuple[float, float]:
    import optuna
    import torch
    from torch_peers import batch_loss, count_hits, make_model, make_optimizer

    from jaxrank.data import splits

    del name
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    table, photos_ND, pairs_M2, y_M = tensors(seed, NUM_PAIRS)
    splits_FM = splits.split_pairs(table, folds=FOLDS)

    def train(
        chosen: dict[str, Any], rows_M: np.ndarray, val_M: np.ndarray, epochs: int
    ) -> tuple[Any, list[float]]:
        """Trains for `epochs`; returns the last model and the validation accuracy of each epoch."""
        used = torch.from_numpy(np.unique(pairs_M2[rows_M]))
        std, mean = torch.std_mean(photos_ND[used], dim=0, correction=0)
        inputs_ND = (photos_ND - mean) / std
        data = torch_data(inputs_ND, pairs_M2, y_M, rows_M, val_M)
        model = make_model(data, chosen)
        optimizer = make_optimizer(list(model.parameters()), chosen)
        accuracies = []
        for _ in range(epochs):
            model.train()
            for rows_B in data.train[torch.randperm(len(data.train))].split(BATCH):
                inputs, y_B = data.batch(rows_B)
                optimizer.zero_grad(set_to_none=True)
                batch_loss(model(inputs), y_B, MARGIN).backward()
                optimizer.step()
            model.eval()
            if len(data.val):
                with torch.inference_mode():
                    inputs, y_B = data.batch(data.val)
                    accuracies.append(data.accuracy(count_hits(model(inputs), y_B)).item())
        return (model, mean, std), accuracies

    def objective(trial: Any) -> float:
        chosen = {
            "learning_rate": trial.suggest_float("learning_rate", 1e-5, 1e-2, log=True),
            "dropout": trial.suggest_float("dropout", 0, 0.6),
            "weight_decay": trial.suggest_float("weight_decay", 1e-3, 0.3, log=True),
            "hidden_dims": WIDTHS[trial.suggest_categorical("mlp_hidden_dims", list(WIDTHS))],
            "fused": True,
        }
        best = []
        for split_M in splits_FM:
            rows_M = np.flatnonzero(split_M == splits.TRAIN)
            val_M = np.flatnonzero(split_M == splits.VALIDATION)
            _, accuracies = train(chosen, rows_M, val_M, EPOCHS)
            best.append((max(accuracies), 1 + int(np.argmax(accuracies))))
        trial.set_user_attr("chosen", chosen)
        trial.set_user_attr("epochs", int(statistics.median(epoch for _, epoch in best)))
        return statistics.mean(accuracy for accuracy, _ in best)

    torch.manual_seed(seed)
    sampler = optuna.samplers.TPESampler(seed=seed)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(objective, n_trials=experiments)
    found = study.best_trial.user_attrs
    every = np.arange(len(y_M))
    (model, mean, std), _ = train(found["chosen"], every, every[:0], found["epochs"])
    seconds = time.time() - launched

    _, new_ND, new_M2, new_y_M = tensors(10_000 + seed, NUM_NEW_PAIRS)
    with torch.inference_mode():
        scores_N = model((new_ND - mean) / std)[:, 0].numpy()
    difference_M = scores_N[new_M2[:, 0]] - scores_N[new_M2[:, 1]]
    return seconds, float(((difference_M > 0) == (new_y_M > 0)).mean())


def tensors(seed: int, num_pairs: int) -> tuple[Any, Any, np.ndarray, np.ndarray]:
    """Table, features [N, D] as a tensor, pairs [M, 2] as rows of it, and y [M] of 1 and -1."""
    import torch

    pairs, features = draw_set(seed, num_pairs)
    block = features["columns"]
    row_of = {photo: row for row, photo in enumerate(block.photos)}
    photos = pairs.table[["image_a", "image_b"]].to_numpy()
    pairs_M2 = np.array([[row_of[a], row_of[b]] for a, b in photos])
    y_M = np.sign(pairs.table["preference"].to_numpy() - 0.5).astype(np.float32)
    return pairs.table, torch.from_numpy(np.asarray(block.values)), pairs_M2, y_M


def torch_data(
    inputs_ND: Any, pairs_M2: np.ndarray, y_M: np.ndarray, train_M: np.ndarray, val_M: np.ndarray
) -> Any:
    import torch
    from torch_peers import Data

    whole = map(torch.from_numpy, (pairs_M2, y_M, np.zeros(len(y_M), np.int64), train_M, val_M))
    return Data(inputs_ND, *whole)


if __name__ == "__main__":
    main()
