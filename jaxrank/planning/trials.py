"""Trials: one model trained once."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from jaxrank.experiments.hyperparameters import Experiment

# A trial within its search: experiment name, fold, seed.
TrialKey: TypeAlias = tuple[str, int, int]


class Trial(NamedTuple):
    """Experiment, fold and seed of one model that is trained once."""

    experiment: Experiment
    fold: int
    seed: int

    @property
    def key(self) -> TrialKey:
        return self.experiment.name, self.fold, self.seed

    @property
    def identity(self) -> str:
        """Hash that seeds all random numbers of the trial, whatever its place in an array."""
        return hashlib.sha256("\n".join(map(str, self.key)).encode()).hexdigest()


def make_trials(
    experiments: Sequence[Experiment], folds: Sequence[int], seed: int, num_seeds: int
) -> list[Trial]:
    """Makes `num_seeds` trials of each experiment and fold.

    Seeds count from the experiment's own seed, or from `seed` if it has none.
    """
    return [
        Trial(e, fold, (seed if e.seed < 0 else e.seed) + place)
        for e in experiments
        for fold in folds
        for place in range(num_seeds)
    ]
