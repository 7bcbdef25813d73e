"""Strategies: which experiments of a space a search trains next.

A strategy has no state: its proposals are a function of the space, the experiments so far and the
seed. So a round that was lost in a kill is proposed again, bit for bit.

Axis letters: I experiments, D hyperparameters of the space.
"""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxrank.errors import UserError, did_you_mean
from jaxrank.experiments.search_space import SearchSpace

# Consecutive experiments that share compiled-in values: compiling costs more than training.
SHARE_A_PROGRAM = 4
# Points drawn for each experiment wanted: points of a small space repeat.
_MOST_DRAWN = 20
_CHUNK = 1024


class Observation(NamedTuple):
    """Result of an experiment so far.

    Attributes:
      values: values of the space's hyperparameters, without those whose condition does not hold.
      accuracy: mean validation accuracy; None if no trial has completed.
      epoch: rung that has dropped the experiment, if any; its accuracy is less than full training
        would have given.
    """

    values: Mapping[str, Any]
    accuracy: float | None
    epoch: int | None = None


class Strategy(NamedTuple):
    """A way to choose experiments of a space.

    Attributes:
      propose: maps (space, n, history, seed) to the values of at most n further experiments; fewer
        if the space has no more.
      learns: whether results change the proposals.
      packages: packages whose version may change the proposals.
    """

    propose: Callable[[SearchSpace, int, Sequence[Observation], int], list[dict[str, Any]]]
    learns: bool = False
    packages: tuple[str, ...] = ()


def _grid(
    space: SearchSpace, n: int, history: Sequence[Observation], seed: int
) -> list[dict[str, Any]]:
    """Proposes all combinations, in order."""
    del seed
    return unseen(space.grid(), n, history)


def _random(
    space: SearchSpace, n: int, history: Sequence[Observation], seed: int
) -> list[dict[str, Any]]:
    rng = np.random.default_rng([seed, len(history)])
    return _points(lambda count: rng.random((count, len(space.parameters))), space, n, history)


def _sobol(
    space: SearchSpace, n: int, history: Sequence[Observation], seed: int
) -> list[dict[str, Any]]:
    """Proposes scrambled Sobol points (Owen 1998).

    The sequence is always the same; points that are in the history are skipped.
    """
    from scipy.stats import qmc

    sequence = qmc.Sobol(len(space.parameters), rng=np.random.default_rng(seed))
    return _points(sequence.random, space, n, history)


def _points(
    draw: Callable[[int], np.ndarray],
    space: SearchSpace,
    n: int,
    history: Sequence[Observation],
) -> list[dict[str, Any]]:
    """First n new experiments at the points of a sequence."""
    num_chunks = -(-_MOST_DRAWN * (n + len(history)) // _CHUNK)
    chunks = (share_programs(space, draw(_CHUNK)) for _ in range(num_chunks))
    return unseen(map(space.at, itertools.chain.from_iterable(chunks)), n, history)


def _optuna(sampler: str) -> Callable[..., list[dict[str, Any]]]:
    def propose(
        space: SearchSpace, n: int, history: Sequence[Observation], seed: int
    ) -> list[dict[str, Any]]:
        from jaxrank.runner import optuna_study

        return optuna_study.propose(space, n, history, seed, sampler)

    return propose


GRID, RANDOM, SOBOL = "grid", "random", "sobol"
STRATEGIES: dict[str, Strategy] = {
    GRID: Strategy(_grid),
    RANDOM: Strategy(_random),
    SOBOL: Strategy(_sobol, packages=("scipy",)),
    "tpe": Strategy(_optuna("tpe"), learns=True, packages=("optuna",)),
    "gp": Strategy(_optuna("gp"), learns=True, packages=("optuna", "scipy", "torch")),
}


def choose_strategy(name: str, space: SearchSpace) -> str:
    """Name of the strategy; by default a grid if the space has lists only, else Sobol.

    Raises:
      UserError: the strategy is unknown, or does not fit the space.
    """
    if not name:
        return GRID if space.is_grid else SOBOL
    if name not in STRATEGIES:
        raise UserError(f"--strategy={name}: unknown.{did_you_mean(name, STRATEGIES)}")
    if name == GRID and not space.is_grid:
        key = next(p.key for p in space.parameters if not hasattr(p.values, "values"))
        raise UserError(
            f"--strategy={GRID}: --space.{key} is a range; a number of values makes it a list: "
            "LOW..HIGH:5"
        )
    return name


def share_programs(space: SearchSpace, points_ID: np.ndarray) -> np.ndarray:
    """Lets SHARE_A_PROGRAM consecutive points share the coordinates that are compiled in.

    The shared coordinates are those of the first point.
    """
    static_D = np.array([p.is_static for p in space.parameters], bool)
    if static_D.all() or not static_D.any():
        return points_ID
    leaders_I = np.arange(len(points_ID)) // SHARE_A_PROGRAM
    return np.where(static_D, points_ID[leaders_I], points_ID)


def unseen(
    proposals: Iterable[dict[str, Any]], n: int, history: Sequence[Observation]
) -> list[dict[str, Any]]:
    """First n proposals that are neither in the history nor repeated."""
    seen = {fingerprint(observation.values) for observation in history}

    def new_ones() -> Iterator[dict[str, Any]]:
        for values in proposals:
            if (mark := fingerprint(values)) not in seen:
                seen.add(mark)
                yield values

    return list(itertools.islice(new_ones(), n))


def fingerprint(values: Mapping[str, Any]) -> str:
    """Text that is equal for equal values."""
    return json.dumps(values, sort_keys=True)
