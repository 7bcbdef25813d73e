"""False differences between ten experiments that differ only in their names, with real trainings.

    python benchmarks/identical_trainings.py --sets=20     # some minutes on two cores

Checks the simulations of benchmarks/identical_searches.py. Each set is a new simulated table with
only the image-quality numbers. Prints how many searches find a difference between two experiments
(all pairs), and how many leave an experiment out of the set tied for best, which should hold all.
"""

import argparse
import tempfile
from pathlib import Path

import pandas as pd

from jaxrank import search
from jaxrank.configs import default
from jaxrank.data import synthetic

NAMES = [f"same_{place}" for place in range(10)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", type=int, default=20)
    parser.add_argument("--series", type=int, default=1_000)
    parser.add_argument("--seeds", type=int, default=1)
    given = parser.parse_args()
    num_distinguished = left_out = 0
    for seed in range(given.sets):
        simulated = synthetic.simulate(seed, given.series)
        config = default.get_config()
        for name in NAMES:
            config.experiments[name] = config.experiments.iqa_only.copy_and_resolve_references()
        with tempfile.TemporaryDirectory() as folder:
            workdir = Path(folder) / "search"
            summary = search(
                simulated.pairs,
                {"iqa": simulated.features["iqa"]},
                workdir=workdir,
                config=config,
                experiments=NAMES,
                folds=5,
                num_seeds=given.seeds,
                audit="off",
            ).summary
            pairs = pd.read_csv(workdir / "comparisons.csv")
        both = pairs[["name", "against"]].isin(NAMES).all(axis=1) & (pairs["family"] == "all pairs")
        apart = (pairs.loc[both, "ci_low"] > 0) | (pairs.loc[both, "ci_high"] < 0)
        tied = summary.set_index("experiment_name").loc[NAMES, "tied_for_best"]
        num_distinguished += bool(apart.any())
        left_out += not tied.all()
        accuracy = 100 * summary.set_index("experiment_name").loc[NAMES, "test_accuracy"]
        print(f"set {seed}: {accuracy.min():.1f} to {accuracy.max():.1f}%, {apart.sum()} of "
              f"{both.sum()} pairs distinguished, {(~tied).sum()} left out",
              flush=True)  # fmt: skip
    print(f"\nof {given.sets} searches {num_distinguished} distinguish equal experiments, "
          f"{left_out} leave one out")  # fmt: skip


if __name__ == "__main__":
    main()
