"""Optuna (extra `optuna`): its samplers propose experiments, its dashboard can show a search.

plan.json is the record of a search. A study is built from it when needed, and then discarded.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxrank.errors import UserError
from jaxrank.evaluation.importances import quiet_optuna
from jaxrank.experiments.search_space import Choice, Parameter, SearchSpace
from jaxrank.io import atomic
from jaxrank.runner.strategies import (
    GRID,
    RANDOM,
    SHARE_A_PROGRAM,
    STRATEGIES,
    Observation,
    fingerprint,
)

if TYPE_CHECKING:
    import optuna

STUDY_NAME = "jaxrank"
# Trials asked of Optuna for each experiment wanted: trials of a small space repeat.
_MOST_ASKED = 10
# Consecutive trials that repeat an experiment before compiled-in values change.
_MOST_REPEATS = 3


def propose(
    space: SearchSpace, n: int, history: Sequence[Observation], seed: int, sampler: str
) -> list[dict[str, Any]]:
    """Proposes the values of at most n further experiments as one batch.

    Each trial of the batch counts as a bad trial for the next (constant liar), so that they differ.
    Where Optuna repeats itself, a grid or random points supply the rest.

    Args:
      space, history: see `strategies`.
      n: number of experiments wanted.
      seed: seed of the search; the sampler's seed follows from it and from the number of
        experiments so far.
      sampler: "tpe" (Bergstra et al. 2011) or "gp".
    """
    if sampler == "gp":
        _import_torch()
        # Optuna's ignores pruned trials. What rungs have dropped counts with its accuracy there.
        history = [seen._replace(epoch=None) for seen in history]
    with quiet_optuna() as optuna:
        own = _sampler(sampler, _seed(seed, len(history)))
        study = make_study(space, history)
        seen = {fingerprint(observation.values) for observation in history}
        proposals: list[dict[str, Any]] = []
        sharing = not all(p.is_static for p in space.parameters)
        first = repeats = 0  # `first` of the experiments that share their compiled-in values
        for _ in range(_MOST_ASKED * n):
            if len(proposals) == n:
                break
            shares = sharing and 0 < len(proposals) - first < SHARE_A_PROGRAM
            shares = shares and repeats < _MOST_REPEATS
            leader = proposals[first] if shares else {}
            fixed = {
                p.key: leader[p.key] for p in space.parameters if p.is_static and p.key in leader
            }
            study.sampler = optuna.samplers.PartialFixedSampler(fixed, own) if fixed else own
            values = _suggested(space, study.ask())
            if (mark := fingerprint(values)) in seen:
                repeats += 1
                continue
            seen.add(mark)
            first = first if shares else len(proposals)
            repeats = 0
            proposals.append(values)
    known = [*history, *(Observation(values, None) for values in proposals)]
    rest = STRATEGIES[GRID if space.is_grid else RANDOM]
    return proposals + rest.propose(space, n - len(proposals), known, seed)


def make_study(
    space: SearchSpace, history: Sequence[Observation], storage: Any = None
) -> "optuna.Study":
    """Builds a study of the experiments so far that maximises validation accuracy."""
    with quiet_optuna() as optuna:
        study = optuna.create_study(
            storage=storage, study_name=STUDY_NAME, direction="maximize",
            sampler=optuna.samplers.RandomSampler(seed=0),
        )  # fmt: skip
        parameters = {p.key: p for p in space.parameters}
        states = optuna.trial.TrialState
        study.add_trials(
            [
                optuna.trial.create_trial(
                    params=dict(seen.values),
                    distributions={key: _distribution(parameters[key]) for key in seen.values},
                    state=states.FAIL
                    if seen.accuracy is None
                    else (states.COMPLETE if seen.epoch is None else states.PRUNED),
                    value=seen.accuracy,
                    intermediate_values={}
                    if seen.epoch is None or seen.accuracy is None
                    else {seen.epoch: seen.accuracy},
                )
                for seen in history
            ]
        )
        return study


def check_journal(path: Path) -> None:
    """Raises a UserError if Optuna or the folder of a journal is missing."""
    with quiet_optuna():
        pass
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"--optuna_journal={path}: not a file in an existing folder")


def write_journal(path: Path, space: SearchSpace, history: Sequence[Observation]) -> None:
    """Writes the experiments so far as a study that optuna-dashboard shows.

    The file is a mirror that jaxrank never reads; it is replaced as a whole.
    """
    with quiet_optuna() as optuna:
        temporary = atomic.temporary_path(path)
        temporary.unlink(missing_ok=True)
        backend = optuna.storages.journal.JournalFileBackend(str(temporary))
        make_study(space, history, optuna.storages.JournalStorage(backend))
        os.replace(temporary, path)


def _seed(seed: int, num_seen: int) -> int:
    """Seed of a sampler; seeds of neighbouring searches and rounds are unrelated."""
    return int.from_bytes(hashlib.sha256(f"{seed}\n{num_seen}".encode()).digest()[:4], "big")


def _sampler(name: str, seed: int) -> Any:
    import optuna

    if name == "tpe":
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)
    return optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False)


def _import_torch() -> None:
    try:
        import torch  # noqa: F401
    except ImportError:
        raise UserError(
            "--strategy=gp needs PyTorch: pip install 'jaxrank[features]'; or --strategy=tpe"
        ) from None


def _suggested(space: SearchSpace, trial: "optuna.Trial") -> dict[str, Any]:
    values: dict[str, Any] = {}
    for parameter in space.parameters:
        if parameter.active(values):
            value = trial._suggest(parameter.key, _distribution(parameter))
            if not isinstance(parameter.values, Choice):
                value = parameter.values.rounded(value)
            values[parameter.key] = value
    return values


def _distribution(parameter: Parameter) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    values = parameter.values
    if isinstance(values, Choice):
        return CategoricalDistribution(values.values)
    if values.whole:
        return IntDistribution(int(values.low), int(values.high), log=values.log)
    return FloatDistribution(values.low, values.high, log=values.log)
