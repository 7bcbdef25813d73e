"""Model card and notes of a final model."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxrank import baselines
from jaxrank.audit import checks
from jaxrank.data import splits
from jaxrank.data.preference_tables import counted
from jaxrank.evaluation.calibration import CHANCE_LOG_LOSS, Calibration
from jaxrank.evaluation.leaderboard import Ranking
from jaxrank.evaluation.trial_results import TrialResult, best_trial
from jaxrank.inference.model_card import Evidence, ModelCard
from jaxrank.inference.saved_model import FINAL
from jaxrank.runner.final_training import Trained, usable_pairs, which_series
from jaxrank.runner.prepare import Prepared


def final_card(
    trained: Trained,
    calibrated: Calibration,
    folder: Path,
    prepared: Prepared,
    mine: Sequence[TrialResult],
    ranking: Ranking,
    ceiling: Mapping[str, float] | None,
) -> ModelCard:
    """Makes the card: how the model was made, and the held-out accuracy of its configuration."""
    table, measured_as = ranking.by_test, trained.experiment.name
    if len(trained.seeds) > 1:  # the final model is also the mean of its seeds
        means = [name for name in ranking.names if name.startswith(f"{measured_as} (mean of ")]
        measured_as = means[0] if means else measured_as
    x = ranking.names.index(measured_as) if measured_as in ranking.names else None
    facts, folds = prepared.data, prepared.trained_folds
    only_one = trained.fold is not None and len(mine) == 1
    by_whom = "of this model" if only_one else "of models of the same configuration"
    data, dataset = prepared.split_data, prepared.dataset
    pairs = usable_pairs(prepared).rows(0, splits.TRAIN)  # training pairs of the model
    if trained.fold is not None:
        pairs = data.rows(trained.fold, splits.TRAIN)
    where = f"test pairs of {len(folds)} folds" if len(folds) > 1 else "test pairs of one split"
    audit = checks.read_audit(folder)
    best = best_trial(mine) if trained.fold is not None else None
    evidence = Evidence(
        accuracy=float("nan") if x is None else float(table.mean[x]),
        low=float("nan") if x is None else float(table.ci_low[x]),
        high=float("nan") if x is None else float(table.ci_high[x]),
        measured_on=f"{where}, {by_whom}",
        num_pairs=len(pairs),
        num_series=len(np.unique(dataset.series_M[pairs])),
        num_photos=len(np.unique(dataset.pair_rows_M2[pairs])),
        split=f"{prepared.launch['split']}, "
        + (f"{len(folds)} folds" if len(folds) > 1 else "one split")
        + (f"; trained on {which_series(prepared)}" if prepared.launch["confirm_share"] else ""),
        baselines={
            other: float(mean)
            for other, mean, is_baseline in zip(
                ranking.names, table.mean, ranking.draws.is_baseline_X, strict=True
            )
            if is_baseline and other != baselines.MIXED
        },
        ceiling=float("nan") if ceiling is None else ceiling["test_accuracy"],
        audit="" if audit is None else f"{audit.verdict}: {audit.headline}",
    )
    recipes = prepared.dataset.recipes
    return ModelCard(
        experiment=trained.experiment,
        fold=trained.fold,
        seeds=trained.seeds,
        epochs=trained.epochs,
        val_accuracy=float("nan") if best is None else best.metrics.measured["val_accuracy"],
        calibration=calibrated,
        evidence=evidence,
        caveats=list(facts.caveats),
        recipes={block: recipes[block] for block in trained.experiment.blocks if block in recipes},
    )


def final_notes(name: str, trained: Trained, card: ModelCard, series: str) -> list[str]:
    """Describes the final model in sentences; `series` names the series that trained it."""
    evidence, found = card.evidence, card.calibration
    if trained.fold is not None:
        how = f"{name} as trained on the training series"
    elif any(trained.epochs):
        seeds = f", {len(trained.seeds)} seeds" if len(trained.seeds) > 1 else ""
        how = f"{name}, trained on {series} for {counted(trained.epochs[0], 'epoch')}{seeds}"
    else:
        how = f"the baseline {name}, fitted on {series} (--final=EXPERIMENT saves an experiment)"
    lines = [f"Final model: {how}; {FINAL}/ has it and its card."]
    if trained.fold is None and np.isfinite(evidence.accuracy):
        lines[0] += (
            f" Expected accuracy (from the folds' models of the same configuration): "
            f"{100 * evidence.accuracy:.1f}%."
        )
    if not found.beats_chance:
        lines.append(
            f"Its probabilities are worse than chance (log loss {found.log_loss:.3f}, chance "
            f"{CHANCE_LOG_LOSS:.3f}): 'rank' shows none."
        )
    return lines
