"""Hyperparameter importances by PED-ANOVA, as implemented in Optuna (extra `optuna`)."""

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from jaxrank.errors import UserError

# Number of shuffles over which the importances of shuffled accuracies are averaged.
_SHUFFLES = 5
# Fewest and most experiments: with fewer, no importance can be estimated; with more, each of the
# PED-ANOVA runs takes over a second.
FEWEST_EXPERIMENTS = 4
MOST_EXPERIMENTS = 200
# A range above this multiple of its lowest value is compared on a logarithmic scale.
_WIDE = 10


class Importance(NamedTuple):
    """Importance of a hyperparameter, and its chance level.

    Attributes:
      share: share of the difference between the best tenth of experiments and the others; the
        shares of all hyperparameters sum to 1.
      by_chance: share with shuffled accuracies. It is needed because shares sum to 1 even where no
        hyperparameter matters.
    """

    share: float
    by_chance: float


def importances(
    values: Mapping[str, Sequence[Any]], accuracy_X: np.ndarray
) -> dict[str, Importance] | None:
    """Computes importances by hyperparameter with PED-ANOVA (Watanabe et al. 2023).

    Args:
      values: by hyperparameter, the value of each experiment; None where its condition did not
        hold.
      accuracy_X: accuracies of the experiments.

    Returns:
      The importances; None without Optuna, or where PED-ANOVA finds none.
    """
    if not FEWEST_EXPERIMENTS <= len(accuracy_X) <= MOST_EXPERIMENTS:
        return None
    rng = np.random.default_rng(0)
    try:
        with quiet_optuna() as optuna:
            found = _ped_anova(optuna, values, accuracy_X)
            shuffled = [
                _ped_anova(optuna, values, rng.permutation(accuracy_X)) for _ in range(_SHUFFLES)
            ]
    except (UserError, ValueError, RuntimeError):  # not installed; too few experiments
        return None
    return {
        key: Importance(float(share), float(np.mean([one[key] for one in shuffled])))
        for key, share in found.items()
    }


def _ped_anova(
    optuna: Any, values: Mapping[str, Sequence[Any]], accuracy_X: np.ndarray
) -> dict[str, float]:
    scales = {key: _distribution(optuna, column) for key, column in values.items()}
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    for place, accuracy in enumerate(accuracy_X):
        params = {key: column[place] for key, column in values.items()}
        params = {key: value for key, value in params.items() if value is not None}
        distributions = {key: scales[key] for key in params}
        study.add_trial(
            optuna.trial.create_trial(
                params=params, distributions=distributions, value=float(accuracy)
            )
        )
    found: dict[str, float] = optuna.importance.get_param_importances(
        study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
    )
    return found


def _distribution(optuna: Any, column: Sequence[Any]) -> Any:
    known = list(dict.fromkeys(value for value in column if value is not None))
    if not all(type(value) in (int, float) for value in known):
        return optuna.distributions.CategoricalDistribution(known)
    low, high = min(known), max(known)
    log = low > 0 and high > _WIDE * low
    if all(isinstance(value, int) for value in known):
        return optuna.distributions.IntDistribution(low, high, log=log)
    return optuna.distributions.FloatDistribution(low, high, log=log)


@contextmanager
def quiet_optuna() -> Iterator[Any]:
    """Yields Optuna without its log lines, with PyTorch on one thread.

    A Gaussian process of a hundred points is many small products, which were ten times slower with
    two threads on busy cores.

    Raises:
      UserError: Optuna is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise UserError("Optuna is not installed: pip install 'jaxrank[optuna]'") from None
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else 0
    try:
        if torch:
            torch.set_num_threads(1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield optuna
    finally:
        optuna.logging.set_verbosity(level)
        if torch:
            torch.set_num_threads(threads)
