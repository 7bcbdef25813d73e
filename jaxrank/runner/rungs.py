"""Rungs: epochs at which the experiments of a round are compared and some of them dropped.

Synchronous successive halving (Jamieson and Talwalkar 2016) with a paired test: experiments that
the test separates from the best are "worse". Of the others, as many continue as keep the next stage
no more expensive than the one before; the rest are "dropped by budget". plan.json holds the outcome
of each rung.
"""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxrank.data import splits
from jaxrank.evaluation import hits, successive_halving
from jaxrank.evaluation.evaluator import Evaluator
from jaxrank.evaluation.hits import Hits
from jaxrank.evaluation.successive_halving import BY_BUDGET, INCOMPLETE, WORSE, Ending, RungHits
from jaxrank.evaluation.trial_results import TrialResult
from jaxrank.experiments.hyperparameters import Experiment
from jaxrank.experiments.rungs import without_references
from jaxrank.planning import planner
from jaxrank.planning.cohort import Cohort
from jaxrank.planning.trials import Trial
from jaxrank.runner.manifest import Manifest, Rung, cohorts_of
from jaxrank.runner.prepare import Prepared
from jaxrank.runner.states import read_state

log = logging.getLogger("jaxrank")


class OpenRung(NamedTuple):
    """A rung that has not been decided.

    Attributes:
      names: names of the experiments that are trained to the rung.
      epoch: epoch of the rung.
      next_epoch: epoch of the next rung, or the last epoch of these experiments.
    """

    names: list[str]
    epoch: int
    next_epoch: int


def open_rung(record: Manifest, experiments: Sequence[Experiment]) -> OpenRung | None:
    """The rung that the last round is trained to; None if it is trained to the end."""
    rungs = record.launch.get("rungs")
    if not rungs:
        return None
    in_round = max(len(record.rounds) - 1, 0)
    done = [rung for rung in record.rungs if rung.round == in_round]
    trained = {name for name, _, _ in record.trials}
    if done:
        names = done[-1].survivors
    else:
        asked = set(record.rounds[-1].names) if record.rounds else None
        names = [
            e.name
            for e in without_references(experiments)
            if e.name in trained and (asked is None or e.name in asked)
        ]
    last = max((e.max_epochs for e in experiments if e.name in set(names)), default=0)
    left = [rung for rung in rungs if rung < last and (not done or rung > done[-1].epoch)]
    return OpenRung(names, left[0], [*left, last][1]) if left else None


def following(
    folder: Path,
    record: Manifest,
    prepared: Prepared,
    finished: Mapping[int, Sequence[TrialResult]],
    evaluator: Evaluator,
) -> Manifest:
    """Decides the rung that all trials have reached, and adds the cohorts of the survivors.

    Returns the record unchanged if no rung is left.

    Args:
      folder: folder of the search.
      record, prepared: the search, with all of its cohorts trained.
      finished: results of the cohorts, by number.
      evaluator: evaluator of the search.
    """
    reached = open_rung(record, prepared.experiments)
    if reached is None:
        return record
    before = [rung.entrants for rung in record.rungs if rung.epoch == reached.epoch]
    names = [name for entrants in (*before, reached.names) for name in entrants]
    in_round = max(len(record.rounds) - 1, 0)
    running = _running(folder, record, prepared, reached)
    still = {trial.experiment.name for _, trial in running}
    done = [name for name in reached.names if name not in still]
    results = _results_at(record, finished, reached.epoch, names)
    decision = successive_halving.decide(
        RungHits(
            hits=_hits(results, prepared, evaluator, names),
            twins_X=_twins(results, names),
            round=in_round,
            epoch=reached.epoch,
            share=reached.epoch / reached.next_epoch,
            entrants_X=np.isin(names, reached.names),
            survivors_X=np.zeros(len(names), bool),
            finished_X=np.isin(names, done),
        )
    )

    def names_where(chosen_X: np.ndarray) -> list[str]:
        return [name for name, chosen in zip(names, chosen_X, strict=True) if chosen]

    decided = Rung(
        round=in_round, epoch=reached.epoch, next_epoch=reached.next_epoch,
        survivors=names_where(decision.survives_X), worse=names_where(decision.worse_X),
        by_budget=names_where(decision.by_budget_X), failed=names_where(decision.failed_X),
        finished=done,
    )  # fmt: skip
    log.info("%s", _describe(decided))
    record = record._replace(rungs=[*record.rungs, decided])
    after = open_rung(record, prepared.experiments)
    ends = None if after is None else after.epoch
    survivors = set(decided.survivors)
    sources = [one for one in running if one[1].experiment.name in survivors]
    return record.with_cohorts(planner.continued_cohorts(sources, ends, prepared.cohort_limit))


def rung_hits(
    record: Manifest,
    prepared: Prepared,
    finished: Mapping[int, Sequence[TrialResult]],
    evaluator: Evaluator,
    names: Sequence[str],
) -> list[RungHits]:
    """Hits that each rung of a finished search compared, for the entries with these names."""
    found = []
    done: set[str] = set()
    for rung in record.rungs:
        done |= {*rung.finished}  # also at later rungs, which a replay may let it reach
        results = _results_at(record, finished, rung.epoch, names)
        found.append(
            RungHits(
                hits=_hits(results, prepared, evaluator, names),
                twins_X=_twins(results, names),
                round=rung.round,
                epoch=rung.epoch,
                share=rung.epoch / rung.next_epoch,
                entrants_X=np.isin(names, rung.entrants),
                survivors_X=np.isin(names, rung.survivors),
                finished_X=np.isin(names, [*done]),
            )
        )
    return found


def endings(record: Manifest) -> dict[str, Ending]:
    """Reason and rung of each dropped experiment, by name."""
    found: dict[str, Ending] = {}
    for rung in record.rungs:
        for reason, names in _dropped(rung).items():
            found |= dict.fromkeys(names, Ending(reason, rung.epoch))
    return found


def _results_at(
    record: Manifest,
    finished: Mapping[int, Sequence[TrialResult]],
    epoch: int,
    names: Sequence[str],
) -> list[TrialResult]:
    """Results of the experiments at a rung: the last of each trial up to its epoch."""
    results = {
        result.trial.key: result
        for planned in record.cohorts
        if planned.ends is not None and planned.ends <= epoch
        for result in finished.get(planned.number, ())
    }
    wanted = set(names)
    return [r for r in results.values() if r.trial.experiment.name in wanted]


def _hits(
    results: Sequence[TrialResult],
    prepared: Prepared,
    evaluator: Evaluator,
    names: Sequence[str],
) -> Hits:
    """Hits of the experiments at a rung.

    With folds, the test pairs of all folds count, by which the search also selects later. Without
    folds, the validation pairs count.
    """
    split = splits.TEST if len(prepared.trained_folds) > 1 else splits.VALIDATION
    return hits.from_results(results, {}, evaluator, split, names)


def _twins(results: Sequence[TrialResult], names: Sequence[str]) -> np.ndarray:
    """See `RungHits.twins_X`. Hits would not do: those of few pairs are often equal by chance."""
    scores: dict[str, dict[tuple[int, int], bytes]] = {name: {} for name in names}
    for result in results:
        digest = hashlib.sha256(result.scores_N.tobytes()).digest()
        trial = result.trial
        scores[trial.experiment.name][trial.fold, trial.seed] = digest
    numbers: dict[frozenset, int] = {}
    return np.array([numbers.setdefault(frozenset(scores[n].items()), len(numbers)) for n in names])


def _running(
    folder: Path, record: Manifest, prepared: Prepared, reached: OpenRung
) -> list[tuple[Cohort, Trial]]:
    """Trials at a rung that need further epochs, in the order of the tables.

    Each trial comes with the cohort that trained it to the rung.
    """
    planned = [one for one in record.cohorts if one.ends == reached.epoch]
    cohorts = cohorts_of(planned, prepared)
    entrants = set(reached.names)
    source_of: dict[Trial, Cohort] = {}
    for one in planned:
        cohort = cohorts[one.number]
        if not any(trial.experiment.name in entrants for trial in cohort.trials):
            continue
        state = read_state(folder, one, record.data_and_splits)
        if state is None:  # none of its trials could be trained
            continue
        for trial, running in zip(cohort.trials, state[1], strict=True):
            if running and trial.experiment.name in entrants:
                source_of[trial] = cohort
    return [(source_of[trial], trial) for trial in prepared.trials if trial in source_of]


def _dropped(rung: Rung) -> dict[str, list[str]]:
    """Names of the dropped experiments, by reason."""
    return {WORSE: rung.worse, BY_BUDGET: rung.by_budget, INCOMPLETE: rung.failed}


def _describe(rung: Rung) -> str:
    ended = "".join(f", {len(names)} {reason}" for reason, names in _dropped(rung).items() if names)
    number = len(rung.entrants)
    return f"epoch {rung.epoch}: {len(rung.survivors)} of {number} experiments continue{ended}"
