"""Photos of each series ordered by a saved model."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxrank.data.feature_store import Features
from jaxrank.data.inputs import FeaturesInput, load_inputs, read_features
from jaxrank.data.series import read_series, series_from_frame, series_of_pairs
from jaxrank.errors import UserError, suggests_keywords
from jaxrank.inference.evaluate import TRAIN, VALIDATION, _caveats, _check_finite, _require_embedded
from jaxrank.inference.saved_model import Model, load_model
from jaxrank.io import notebook

ALL_PHOTOS = "all"


class Ranking(NamedTuple):
    """What came of ranking photos.

    Attributes:
      table: `series_id,image,score,rank,pick,p_best`, series by series, the best photo first.
      notes: the conclusions: the caveats, and what became of the photos.
      caveats: what a reader of any number must know, such as that the photos are simulated.
    """

    table: pd.DataFrame
    notes: list[str]
    caveats: list[str]

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        kinds = {"score": "float64", "rank": "Int64", "pick": "boolean", "p_best": "float64"}
        return notebook.result_html(
            "Ranking",
            caveats=self.caveats,
            table=self.table.astype(kinds),
            shares=("p_best",),
            rest=".table",
            notes=[line for line in self.notes if line not in self.caveats],
        )


@suggests_keywords
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
      features: as `jaxrank.search` takes them; without them the embedded simulated photos.
      series: a table with `series_id,image`, or its file; a pair table serves too. Without it all
        photos are one series.

    Raises:
      UserError: the features are not those that the model reads, or the table is no such table.
    """
    model = model if isinstance(model, Model) else load_model(model)
    embedded = features is None
    if features is None:
        _require_embedded(model, "--features")
        simulated, features, *_ = load_inputs(None, None, {})
        series = series_of_pairs(simulated.table) if series is None else series
    store = read_features(features)
    scores = model.score(store)
    _check_finite(scores.to_numpy(), scores.index.to_numpy())
    caveats = _caveats(model, store, embedded)
    notes = [
        *caveats,
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
    table, order_notes = _ordered(table, model.card.slope)
    notes += order_notes
    alone = scores[~scores.index.isin(table["image"])]
    if len(alone):
        notes.append(f"{len(alone):,} photos stand in no series: they have a score and no rank")
        rest = pd.DataFrame({"series_id": "", "image": alone.index, "score": alone.to_numpy()})
        table = pd.concat([table.astype(object), rest.astype(object)], ignore_index=True)
    return Ranking(table[["series_id", "image", "score", "rank", "pick", "p_best"]], notes, caveats)


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
