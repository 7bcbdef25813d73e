"""Effect of the training precision on accuracy, compared with `highest`.

    python benchmarks/precision.py --real=../shared/phototriage   # ten minutes on two cores
    python benchmarks/precision.py --seeds=3

The same trials (initial weights, batches, dropout) run at each precision, over five folds. Accuracy
is hits over pairs of all test folds together, averaged over seeds. Intervals of the differences are
from a bootstrap over series. The real tables have only four columns, so the hidden layers are
128,128: the second one reads 128 units, and its product is rounded.
"""

import argparse
import dataclasses
import time
from pathlib import Path

import jax
import numpy as np
from real_table import FOLDS, interval, trained

from jaxrank.configs import default
from jaxrank.data import importers, preferences, splits, synthetic
from jaxrank.data.dataset import SplitDataset, align
from jaxrank.evaluation.evaluator import make_evaluator
from jaxrank.experiments.hyperparameters import read_experiments, resolve_blocks
from jaxrank.models import PRECISIONS


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--real", type=Path, help="the folder of the real tables; else simulated")
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args()
    if given.real:
        pairs = preferences.read_preferences(given.real / "pairs.csv")
        dataset = align(pairs, {"iqa": importers.read_block_csv(given.real / "iqa.csv")})
        changes = {"mlp_hidden_dims": "128,128", "blocks": "iqa"}
    else:
        simulated = synthetic.simulate()
        pairs, dataset = simulated.pairs, align(simulated.pairs, simulated.features)
        changes = {}
    splits_FM = splits.split_pairs(pairs.table, folds=FOLDS)[:, dataset.kept_M]
    evaluator = make_evaluator(SplitDataset(dataset=dataset, splits_FM=splits_FM))
    (experiment, *_) = read_experiments(default.get_config(), ["tiny_mlp"], changes)
    experiment = resolve_blocks(experiment, list(dataset.block_columns))
    directed_M = dataset.preference_M != 0.5
    print(f"{'real' if given.real else 'SIMULATED'}, {jax.devices()[0].device_kind}, "
          f"{given.seeds} seeds of {experiment.name}")  # fmt: skip
    hits: dict[str, np.ndarray] = {}
    for precision in PRECISIONS:
        begun = time.perf_counter()
        hits[precision], _ = trained(
            dataclasses.replace(experiment, precision=precision), evaluator, given.seeds
        )
        seconds = time.perf_counter() - begun
        change_M = hits[precision] - hits["highest"]
        print(
            f"  {precision:9} {interval(hits[precision], directed_M, dataset)} "
            f"difference {interval(change_M, directed_M, dataset, sign='+')}, "
            f"{(change_M != 0).mean():.2%} of pairs decided otherwise, {seconds:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
