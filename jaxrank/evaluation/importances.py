"""Importances of hyperparameters by PED-ANOVA, which Optuna has (extra `optuna`)."""

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from jaxrank.errors import UserError

# A range over so many times its lowest value is compared in the logarithm.
_WIDE = 10


def importances(
    values: Mapping[str, Sequence[Any]], accuracy_X: Sequence[float] | np.ndarray
) -> dict[str, float] | None:
    """By hyperparameter, its share of what tells the best tenth from the others (PED-ANOVA,
    Watanabe et al. 2023); None without Optuna, or where it finds none.

    Args:
      values: by hyperparameter, the value of each experiment; None where its condition did not
        hold.
      accuracy_X: of the experiments.
    """
    try:
        with quiet_optuna() as optuna:
            scales = {key: _distribution(optuna, column) for key, column in values.items()}
            study = optuna.create_study(
                direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0)
            )
            for place, accuracy in enumerate(accuracy_X):
                params = {key: column[place] for key, column in values.items()}
                params = {key: value for key, value in params.items() if value is not None}
                study.add_trial(
                    optuna.trial.create_trial(
                        params=params,
                        distributions={key: scales[key] for key in params},
                        value=float(accuracy),
                    )
                )
            found = optuna.importance.get_param_importances(
                study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
            )
    except (UserError, ValueError, RuntimeError):  # not installed; too few experiments
        return None
    return {key: float(share) for key, share in found.items()}


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
    """Optuna without its own log lines, and PyTorch on one thread: a Gaussian process of a hundred
    points is many small products, which two threads on busy cores made ten times slower.

    Raises:
      UserError: it is not installed.
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
