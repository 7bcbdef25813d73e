"""What a saved model says of pairs (`evaluate`) and of photos (`rank`)."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from jaxrank import evaluate, orderings
from jaxrank.checkpoints import Model, load_model
from jaxrank.data.dataset import Dataset, align
from jaxrank.data.feature_store import Features, open_feature_store
from jaxrank.data.inputs import SIMULATED, FeaturesInput, PairsInput, block_caveats, load_inputs
from jaxrank.data.series import read_series, series_from_frame, series_of_pairs
from jaxrank.errors import UserError
from jaxrank.training.step import log_ties

# How a pair's photos were seen by the model.
NEW, VALIDATION, TRAIN = "new", "val", "train"
# The name of the model among the scorers.
MODEL = "model"
ALL_PHOTOS = "all"


class Evaluation(NamedTuple):
    """What came of an evaluation.

    Attributes:
      metrics: a row for each scorer and each way in which the model has seen photos.
      predictions: a row a pair.
      notes: what became of the data, and how to read the numbers.
    """

    metrics: pd.DataFrame
    predictions: pd.DataFrame
    notes: list[str]


def evaluate_model(
    model: Model | Path | str,
    pairs: PairsInput = None,
    features: FeaturesInput = None,
    **reading: Any,
) -> Evaluation:
    """Measures a saved model, and one-line rules beside it, on any pairs.

    Pairs whose photos trained the model, or chose its epoch, are counted apart: on them it looks
    better than it is.

    Args:
      model: from `load_model`, or its folder.
      pairs, features: as `jaxrank.search` takes them; without both the embedded simulated data.
      **reading: see `preferences.read_preferences`.

    Raises:
      UserError: a block is missing, or its columns are not the model's.
    """
    model = model if isinstance(model, Model) else load_model(model)
    if pairs is None and features is None:
        _require_embedded(model, "--pairs and --features")
    checked, store, _, simulated = load_inputs(pairs, features, reading)
    scores = model.score(store)
    dataset = align(checked, {name: store[name] for name in model.block_columns})
    scores_N = scores[dataset.photos].to_numpy()
    _check_finite(scores_N, dataset.photos)
    rules, notes = _rules(dataset, store)
    split_M = _how_seen(model, dataset)
    worth_N, worth = orderings.true_worth(dataset)
    rows = []
    for split in (NEW, VALIDATION, TRAIN):
        chosen = np.flatnonzero(split_M == split)
        if len(chosen):
            photos = orderings.series_photos(dataset, worth_N, chosen)
            for name, rule_N in {MODEL: scores_N, **rules}.items():
                row = _measured(rule_N, dataset, chosen, photos)
                rows.append({"scorer": name, "split": split} | row)
            rows[-len(rules) - 1]["loss"] = _mean_loss(model, scores_N, dataset, chosen)
    rows_a, rows_b = dataset.pair_rows_M2.T
    hit, weight = evaluate.hits_of(
        evaluate.pair_differences(scores_N, dataset), dataset.preference_M
    )
    predictions = dataset.table[["series_id", "image_a", "image_b", "preference"]].assign(
        score_a=scores_N[rows_a],
        score_b=scores_N[rows_b],
        correct=np.where(weight > 0, hit, np.nan),
        split=split_M,
    )
    notes = [
        *([SIMULATED] if simulated is not None else []),
        *_caveats(model),
        *block_caveats({name: store[name] for name in model.block_columns}),
        *dataset.notes,
        *notes,
        *_seen_notes(split_M),
        f"Top-1 and tau measure the order of each series' photos, by {worth}.",
    ]
    return Evaluation(pd.DataFrame(rows), predictions, notes)


def _measured(
    scores_N: np.ndarray, dataset: Dataset, chosen: np.ndarray, photos: orderings.SeriesPhotos
) -> dict[str, Any]:
    difference = evaluate.pair_differences(scores_N, dataset)[chosen]
    hit, weight = evaluate.hits_of(difference, dataset.preference_M[chosen])
    error, num_pairs, num_series = evaluate.clustered_error(hit, weight, dataset.series_M[chosen])
    return {
        "pairs": num_pairs,
        "series": num_series,
        "accuracy": float(hit[weight > 0].mean(dtype=np.float64)) if num_pairs else float("nan"),
        "standard_error": error,
        "top1_hit": orderings.top1_hit(scores_N, photos),
        "kendall_tau": orderings.kendall_tau(scores_N, photos),
        "loss": float("nan"),
    }


def _mean_loss(model: Model, scores_N: np.ndarray, dataset: Dataset, chosen: np.ndarray) -> float:
    value, weight = evaluate.loss_of_pairs(
        model.description["loss"],
        evaluate.pair_differences(scores_N, dataset)[chosen],
        dataset.preference_M[chosen],
        model.description["margin"],
        log_ties(model.params),
    )
    return float(value[weight > 0].mean()) if (weight > 0).any() else float("nan")


def _rules(dataset: Dataset, store: Features) -> tuple[dict[str, np.ndarray], list[str]]:
    """The one-line rules, also where the model does not read their block."""
    notes = []
    if evaluate.IQA_BLOCK in store and evaluate.IQA_BLOCK not in dataset.block_columns:
        block = store[evaluate.IQA_BLOCK]
        rows = pd.Index(block.photos).get_indexer(pd.Index(dataset.photos))
        if (rows < 0).any():
            notes.append(
                "no image-quality rules: "
                f"{int((rows < 0).sum()):,} photos have no row in block 'iqa'"
            )
        else:
            dataset = dataset._replace(
                features_ND=np.asarray(block.values[rows], np.float32),
                block_columns={evaluate.IQA_BLOCK: tuple(block.columns)},
            )
    rules = evaluate.rule_scores(dataset)
    if MODEL in rules:  # a column of that name
        rules[f"{evaluate.IQA_BLOCK}:{MODEL}"] = rules.pop(MODEL)
    return rules, notes


def _how_seen(model: Model, dataset: Dataset) -> np.ndarray:
    """Of every pair, the worst way in which the model has seen one of its photos."""
    in_train, in_val = (
        np.array([photo in model.seen[how] for photo in dataset.photos])[dataset.pair_rows_M2].any(
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
        f"'{NEW}' say how good it is"
    ]


def _require_embedded(model: Model, missing: str) -> None:
    """The embedded data stand in for a user's own where the model was trained on them, only."""
    if SIMULATED not in model.description.get("caveats", []):
        raise UserError(f"{missing} missing: the model was not trained on the embedded data")


def _caveats(model: Model) -> list[str]:
    return [f"the model's training: {caveat}" for caveat in model.description.get("caveats", [])]


def _check_finite(scores: np.ndarray, photos: np.ndarray) -> None:
    wrong = np.flatnonzero(~np.isfinite(scores))
    if len(wrong):
        raise UserError(
            f"the score of photo '{photos[wrong[0]]}' is not a finite number; look at its features"
        )


class Ranking(NamedTuple):
    """What came of ranking photos.

    Attributes:
      table: `series_id,image,score,rank,pick,p_best`, series by series, the best photo first.
      notes: what became of the photos.
    """

    table: pd.DataFrame
    notes: list[str]


def rank_photos(
    model: Model | Path | str,
    features: FeaturesInput = None,
    series: pd.DataFrame | Path | str | None = None,
) -> Ranking:
    """Scores every photo, and orders the photos of each series.

    `rank` is 1 for the highest score and equal for equal scores; `pick` is true for one photo of
    a series, of equally good ones the first. `p_best` is the probability that the photo is
    preferred to all others of its series, by Luce's choice axiom (1959): proportional to
    exp(slope * score), with the slope that fits the model's validation pairs.

    Args:
      model: from `load_model`, or its folder.
      features: a store or its folder; without it the embedded simulated photos.
      series: a table with `series_id,image`, or its file; a pair table serves too. Without it all
        photos are one series.

    Raises:
      UserError: the features are not those that the model reads, or the table is no such table.
    """
    model = model if isinstance(model, Model) else load_model(model)
    embedded = features is None
    if features is None:
        _require_embedded(model, "--features")
        simulated, features, _, _ = load_inputs(None, None, {})
        series = series_of_pairs(simulated.table) if series is None else series
    store = open_feature_store(features) if isinstance(features, Path | str) else features
    scores = model.score(store)
    _check_finite(scores.to_numpy(), scores.index.to_numpy())
    notes = [
        *([SIMULATED] if embedded else []),
        *_caveats(model),
        *block_caveats({name: store[name] for name in model.block_columns}),
        *_unscored_notes(model, store, scores),
        *_seen_photo_notes(model, scores),
    ]
    if series is None:
        table = pd.DataFrame({"series_id": ALL_PHOTOS, "image": scores.index})
    else:
        table = (
            series_from_frame(series) if isinstance(series, pd.DataFrame) else read_series(series)
        )
    scored = table["image"].isin(scores.index)
    if not scored.any():
        raise UserError(
            f"no photo of the series has features: the series name photos such as "
            f"'{table['image'].iloc[0]}', the features such as '{scores.index[0]}'"
        )
    if not scored.all():
        notes.append(
            f"{int((~scored).sum()):,} of {len(table):,} photos in the series have no features and "
            f"are left out, such as '{table['image'][~scored].iloc[0]}'"
        )
    table = table[scored].assign(score=scores[table["image"][scored]].to_numpy())
    table, order_notes = _ordered(table, model.description["slope"])
    notes += order_notes
    alone = scores[~scores.index.isin(table["image"])]
    if len(alone):
        notes.append(f"{len(alone):,} photos stand in no series: they have a score and no rank")
        rest = pd.DataFrame({"series_id": "", "image": alone.index, "score": alone.to_numpy()})
        table = pd.concat([table.astype(object), rest.astype(object)], ignore_index=True)
    return Ranking(table[["series_id", "image", "score", "rank", "pick", "p_best"]], notes)


def _seen_photo_notes(model: Model, scores: pd.Series) -> list[str]:
    """What is said of photos that trained the model or chose its epoch."""
    seen = int(scores.index.isin(model.seen[TRAIN] | model.seen[VALIDATION]).sum())
    if not seen:
        return []
    return [
        f"the model has seen {seen:,} of {len(scores):,} photos in training, and knows more of "
        "them than of new ones"
    ]


def _unscored_notes(model: Model, store: Features, scores: pd.Series) -> list[str]:
    """What is said of photos that lack a row in some block that the model reads."""
    photos = set().union(*(store[name].photos for name in model.block_columns))
    lacking = sorted(photos - set(scores.index))
    if not lacking:
        return []
    return [
        f"{len(lacking):,} of {len(photos):,} photos lack a row in one of the blocks "
        f"{','.join(model.block_columns)} and have no score, such as '{lacking[0]}'"
    ]


def _ordered(table: pd.DataFrame, slope: float) -> tuple[pd.DataFrame, list[str]]:
    """Scored photos, series by series and the best first, with rank, pick and p_best; notes."""
    place = pd.factorize(table["series_id"])[0]
    table = table.iloc[np.lexsort((-table["score"], place))].reset_index(drop=True)
    groups = table.groupby("series_id", sort=False)
    table["rank"] = groups["score"].rank(method="min", ascending=False).astype(int)
    table["pick"] = ~table["series_id"].duplicated()
    # A softmax of each series, from its best photo down: nothing overflows.
    behind = table["score"].astype(np.float64) - groups["score"].transform("max")
    odds = np.exp(slope * behind)
    table["p_best"] = odds / odds.groupby(table["series_id"]).transform("sum")
    notes = []
    if slope == 0:
        notes.append(
            "the model's higher scores were not preferred in its validation pairs: p_best is the "
            "same for all photos of a series"
        )
    best = table["rank"] == 1
    tied = int((best & (best.groupby(table["series_id"]).transform("sum") > 1)).sum())
    if tied:
        notes.append(f"{tied:,} photos share the best score of their series: the first is the pick")
    return table, notes
