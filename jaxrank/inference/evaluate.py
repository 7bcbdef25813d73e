"""Evaluation on pairs of a saved model or of a baseline that needs no preferences."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxrank import baselines, statistics
from jaxrank.data.dataset import Dataset, align
from jaxrank.data.feature_store import Features
from jaxrank.data.inputs import FeaturesInput, PairsInput, load_inputs
from jaxrank.errors import suggests_keywords
from jaxrank.evaluation import ranking
from jaxrank.evaluation.evaluator import METRICS, ScoredPairs, loss_of_pairs
from jaxrank.inference.saved_model import Model
from jaxrank.inference.scored import (
    MODEL,
    Scored,
    check_finite,
    open_scorer,
    require_embedded,
    score,
)
from jaxrank.io import notebook
from jaxrank.metrics import pair_differences, pair_hits
from jaxrank.training.step import log_ties

# How the model has seen a pair's photos.
NEW, VALIDATION, TRAIN = "new", "val", "train"


class Evaluation(NamedTuple):
    """Result of an evaluation.

    Attributes:
      metrics: table with a row for each scorer and split; the split ('new', 'val' or 'train') is
        how the model has seen the photos.
      predictions: table with a row per pair.
      notes: caveats, notes on the data, and how to read the numbers.
      caveats: warnings that apply to every number, such as that the data are simulated.
    """

    metrics: pd.DataFrame
    predictions: pd.DataFrame
    notes: list[str]
    caveats: list[str]

    def _repr_html_(self) -> str:
        """HTML for notebooks; baselines only on the first split, which is the most informative."""
        shown = {metric.name: metric.title for metric in METRICS if metric.title}
        titles = {"split": "photos", "standard_error": "std. error"} | shown
        columns = ["scorer", "split", "pairs", "series", "accuracy", "standard_error", *shown]
        shares = [metric.title for metric in METRICS if metric.is_share]
        first = self.metrics["split"] == self.metrics["split"].iloc[0]
        model = self.metrics["scorer"] == self.metrics["scorer"].iloc[0]
        return notebook.result_html(
            "Evaluation",
            caveats=self.caveats,
            table=self.metrics.loc[first | model, columns].rename(columns=titles),
            shares=("accuracy", "std. error", *shares),
            rest=".metrics",
            notes=[line for line in self.notes if line not in self.caveats],
        )


@suggests_keywords
def evaluate_model(
    model: Model | Path | str | None = None,
    pairs: PairsInput = None,
    features: FeaturesInput = None,
    *,
    baseline: str | None = None,
    photo_name: str | None = None,
    min_agreement: float | None = None,
    min_reviewers: int | None = None,
    series: str | Path | pd.DataFrame | None = None,
) -> Evaluation:
    """Measures a saved model, and baselines for comparison, on any pairs.

    Pairs whose photos trained the model, or chose its epoch, form splits of their own: metrics on
    them are optimistic.

    Args:
      model: model from `load_model`, or its folder.
      pairs, features: as in `jaxrank.search`; without both, the embedded simulated data are used.
      baseline: name of a baseline instead of a model, see `rank_photos`.
      photo_name, min_agreement, min_reviewers, series: see `jaxrank.read_preferences`.

    Raises:
      UserError: a block is missing, or its columns are not the model's.
    """
    scorer = open_scorer(model, baseline)
    if pairs is None and features is None:
        require_embedded(scorer, "--pairs and --features")
    reading = {
        "photo_name": photo_name,
        "min_agreement": min_agreement,
        "min_reviewers": min_reviewers,
        "series": series,
    }
    checked, store, _, _, simulated = load_inputs(pairs, features, reading)
    scored = score(scorer, store, simulated=simulated is not None)
    dataset = align(checked, {name: store[name] for name in scored.blocks})
    check_finite(scored.scores[dataset.photos])
    scores_N = scored.scores[dataset.photos].to_numpy()
    beside, notes = _baselines(dataset, store)
    beside.pop(scored.name, None)
    split_M = _split_of_pairs(scored, dataset)
    strength_N, worth = ranking.ground_truth_strength(dataset)
    rows = []
    for split in (NEW, VALIDATION, TRAIN):
        chosen = np.flatnonzero(split_M == split)
        if len(chosen):
            photos = ranking.series_photos(dataset, strength_N, chosen)
            for name, scores_of_N in {scored.name: scores_N, **beside}.items():
                row = _measured(scores_of_N, dataset, chosen, photos)
                rows.append({"scorer": name, "split": split} | row)
            if isinstance(scorer, Model) and len(scorer.members) == 1:
                rows[-len(beside) - 1]["loss"] = _mean_loss(scorer, scores_N, dataset, chosen)
    rows_a, rows_b = dataset.pair_rows_M2.T
    hit, weight = pair_hits(pair_differences(scores_N, dataset.pair_rows_M2), dataset.preference_M)
    predictions = dataset.table[["series_id", "image_a", "image_b", "preference"]].assign(
        score_a=scores_N[rows_a],
        score_b=scores_N[rows_b],
        correct=np.where(weight > 0, hit, np.nan),
        split=split_M,
    )
    caveats = scored.caveats
    notes = [
        *caveats,
        *scored.notes,
        *dataset.notes,
        *notes,
        *_seen_notes(split_M),
        f"Top-1 and tau measure the order of each series' photos, by {worth}.",
    ]
    return Evaluation(pd.DataFrame(rows), predictions, notes, caveats)


def _measured(
    scores_N: np.ndarray, dataset: Dataset, chosen: np.ndarray, photos: ranking.SeriesPhotos
) -> dict[str, Any]:
    difference = pair_differences(scores_N, dataset.pair_rows_M2)[chosen]
    hit, weight = pair_hits(difference, dataset.preference_M[chosen])
    error, num_pairs, num_series = statistics.clustered_error(hit, weight, dataset.series_M[chosen])
    scored = ScoredPairs(difference, dataset.preference_M[chosen], scores_N, photos)
    measured = {metric.name: metric.measure(scored) for metric in METRICS}
    del measured["accuracy"]  # computed in 64 bits below, with its standard error
    loss = measured.pop("loss")
    return {
        "pairs": num_pairs,
        "series": num_series,
        "accuracy": float(hit[weight > 0].mean(dtype=np.float64)) if num_pairs else float("nan"),
        "standard_error": error,
        **measured,
        "loss": loss,
    }


def _mean_loss(model: Model, scores_N: np.ndarray, dataset: Dataset, chosen: np.ndarray) -> float:
    value, weight = loss_of_pairs(
        model.card.experiment.loss,
        pair_differences(scores_N, dataset.pair_rows_M2)[chosen],
        dataset.preference_M[chosen],
        model.card.experiment.margin,
        log_ties(model.weights.params),
    )
    return float(value[weight > 0].mean()) if (weight > 0).any() else float("nan")


def _baselines(dataset: Dataset, store: Features) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns scores [N] by baseline, whether or not the model reads their block, and notes."""
    notes = []
    if baselines.IQA_BLOCK in store and baselines.IQA_BLOCK not in dataset.block_columns:
        block = store[baselines.IQA_BLOCK]
        rows = pd.Index(block.photos).get_indexer(pd.Index(dataset.photos))
        if (rows < 0).any():
            notes.append(
                "no image-quality baselines: "
                f"{int((rows < 0).sum()):,} photos have no row in block 'iqa'"
            )
        else:
            dataset = dataset._replace(
                features_ND=np.asarray(block.values[rows], np.float32),
                block_columns={baselines.IQA_BLOCK: tuple(block.columns)},
            )
    beside = baselines.heuristic_scores(dataset)
    columns = dataset.block_columns.get(baselines.IQA_BLOCK, ())
    if len(baselines.known_columns(columns)) > 1:
        values = dataset.inputs([baselines.IQA_BLOCK])
        everything = np.arange(len(dataset.photos))
        beside[baselines.SIGNED_SUM] = baselines.signed_sum(columns, values, everything)
    notes += baselines.missing_notes(dataset)
    if MODEL in beside:  # an image-quality column of that name
        beside[f"{baselines.IQA_BLOCK}:{MODEL}"] = beside.pop(MODEL)
    return beside, notes


def _split_of_pairs(scored: Scored, dataset: Dataset) -> np.ndarray:
    """Split of each pair [M]: TRAIN if a photo trained the model, else VALIDATION or NEW."""
    in_train, in_val = (
        np.array([photo in scored.seen[how] for photo in dataset.photos])[dataset.pair_rows_M2].any(
            axis=1
        )
        for how in (TRAIN, VALIDATION)
    )
    return np.select([in_train, in_val], [TRAIN, VALIDATION], NEW)


def _seen_notes(split_M: np.ndarray) -> list[str]:
    seen = split_M != NEW
    if not seen.any():
        return []
    return [
        f"the model has seen photos of {int(seen.sum()):,} of {len(seen):,} pairs: only the rows "
        f"'{NEW}' are unbiased"
    ]
