"""Ranking of each series' photos by a saved model or a baseline that needs no preferences."""

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxrank.data.feature_store import Features
from jaxrank.data.inputs import FeaturesInput, load_inputs, read_features
from jaxrank.data.preference_tables import counted
from jaxrank.data.series import read_series, series_from_frame, series_of_pairs
from jaxrank.errors import UserError, suggests_keywords
from jaxrank.evaluation.calibration import CHANCE_LOG_LOSS, Calibration
from jaxrank.inference.saved_model import SEEN, Model
from jaxrank.inference.scored import Scored, check_finite, open_scorer, require_embedded, score
from jaxrank.io import notebook

ALL_PHOTOS = "all"
# End of the note on photos outside the series. A caller that ranks some photos only may drop it.
NO_SERIES = "to no series: scored, but not ranked"
# Note on a ranking by a baseline. A caller that says so itself may drop it.
NO_PROBABILITIES = "p_best and keep are unknown: they need a model, and this is a baseline"


class Ranking(NamedTuple):
    """Result of ranking photos.

    Attributes:
      table: `series_id,image,score,rank,pick,p_best,keep`, series by series, the best photo first.
      notes: caveats, and notes on the photos.
      caveats: warnings that apply to every number, such as that the photos are simulated.
    """

    table: pd.DataFrame
    notes: list[str]
    caveats: list[str]

    def _repr_html_(self) -> str:
        """HTML for notebooks."""
        kinds = {"score": "float64", "rank": "Int64", "pick": "boolean", "p_best": "float64"}
        kinds["keep"] = "boolean"
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
    model: Model | Path | str | None = None,
    features: FeaturesInput = None,
    series: pd.DataFrame | Path | str | None = None,
    *,
    baseline: str | None = None,
) -> Ranking:
    """Scores every photo and ranks the photos of each series.

    The columns of the result's table:

    - `rank`: 1 for the highest score; equal for equal scores.
    - `pick`: true for one photo per series, the first of the highest scores.
    - `p_best`: probability that the photo is the best of its series by people's preferences. It is
      proportional to exp(pick_slope * score); docs/results.md describes the slope. NaN for a
      baseline, and where the model's probabilities were worse than chance.
    - `keep`: true for the photos that include the best one in nine of ten series. NA for a
      baseline.

    Args:
      model: model from `load_model`, or its folder.
      features: as in `jaxrank.search`; by default the embedded simulated photos.
      series: table with `series_id,image`, its file, or a pair table. Without it all photos are one
        series.
      baseline: name of a baseline that needs no preferences, instead of a model: 'signed_sum', or
        an image-quality number of known direction: 'sharpness', 'exposure' or 'colorfulness'.

    Raises:
      UserError: the features are not those that the model reads, the series table is invalid, or
        the baseline needs preferences.
    """
    scorer = open_scorer(model, baseline)
    embedded = features is None
    if features is None:
        require_embedded(scorer, "--features")
        simulated, features, *_ = load_inputs(None, None, {})
        series = series_of_pairs(simulated.table) if series is None else series
    store = read_features(features)
    scored = score(scorer, store, simulated=embedded)
    scores, caveats = scored.scores, scored.caveats
    check_finite(scores)
    notes = [
        *caveats,
        *scored.notes,
        *_unscored_notes(scored, store),
        *_seen_photo_notes(scored),
    ]
    if series is None:
        table = pd.DataFrame({"series_id": ALL_PHOTOS, "image": scores.index})
    else:
        table = (
            series_from_frame(series) if isinstance(series, pd.DataFrame) else read_series(series)
        )
    has_score = table["image"].isin(scores.index)
    if not has_score.any():
        raise UserError(
            f"no photo of the series has features: the series name photos such as "
            f"'{table['image'].iloc[0]}', the features such as '{scores.index[0]}'"
        )
    if not has_score.all():
        notes.append(
            f"{int((~has_score).sum()):,} of {len(table):,} photos in the series have no features "
            f"and are left out, such as '{table['image'][~has_score].iloc[0]}'"
        )
    table = table[has_score].assign(score=scores[table["image"][has_score]].to_numpy())
    table, order_notes = _ordered(table)
    table, probability_notes = _with_probabilities(table, scored.calibration)
    notes += [*order_notes, *probability_notes]
    alone = scores[~scores.index.isin(table["image"])]
    if len(alone):
        belong = "belongs" if len(alone) == 1 else "belong"
        notes.append(f"{counted(len(alone), 'photo')} {belong} {NO_SERIES}")
        rest = pd.DataFrame({"series_id": "", "image": alone.index, "score": alone.to_numpy()})
        table = pd.concat([table.astype(object), rest.astype(object)], ignore_index=True)
    columns = ["series_id", "image", "score", "rank", "pick", "p_best", "keep"]
    return Ranking(table[columns], notes, caveats)


def _seen_photo_notes(scored: Scored) -> list[str]:
    """Returns a note on photos that trained the model or chose its epoch."""
    known = frozenset().union(*(scored.seen[how] for how in SEEN))
    seen = int(scored.scores.index.isin(known).sum())
    if not seen:
        return []
    return [
        f"the model has seen {seen:,} of {len(scored.scores):,} photos in training: on them it is "
        "overconfident, and more accurate than on new photos"
    ]


def _unscored_notes(scored: Scored, store: Features) -> list[str]:
    """Returns a note on photos without a row in some block that the scorer reads."""
    photos = set().union(*(store[name].photos for name in scored.blocks))
    lacking = sorted(photos - set(scored.scores.index))
    if not lacking:
        return []
    return [
        f"{len(lacking):,} of {len(photos):,} photos lack a row in one of the blocks "
        f"{','.join(scored.blocks)} and have no score, such as '{lacking[0]}'"
    ]


def _ordered(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Sorts photos by series and score and adds `rank` and `pick`; also returns notes."""
    place = pd.factorize(table["series_id"])[0]
    table = table.iloc[np.lexsort((-table["score"], place))].reset_index(drop=True)
    groups = table.groupby("series_id", sort=False)
    table["rank"] = groups["score"].rank(method="min", ascending=False).astype(int)
    table["pick"] = ~table["series_id"].duplicated()
    best = table["rank"] == 1
    tied = int((best & (best.groupby(table["series_id"]).transform("sum") > 1)).sum())
    if not tied:
        return table, []
    note = f"{tied:,} photos share the best score of their series: the first is the pick"
    return table, [note]


def _with_probabilities(
    table: pd.DataFrame, known: Calibration | None
) -> tuple[pd.DataFrame, list[str]]:
    """Adds `p_best` and `keep` to ranked photos; also returns notes on these columns.

    Args:
      table: ranked photos from `_ordered`.
      known: calibration of the model; None for a baseline.
    """
    if known is None:
        unknown = table.assign(p_best=np.nan, keep=pd.array([pd.NA] * len(table), "boolean"))
        return unknown, [NO_PROBABILITIES]
    groups = table.groupby("series_id", sort=False)
    behind = table["score"].astype(np.float64) - groups["score"].transform("max")
    table = table.assign(keep=-behind <= known.keep_gap)
    share = f"{100 * known.keep_share:.0f}%"
    if math.isinf(known.keep_gap):
        notes = [
            f"all photos are kept: {known.keep_series} series to calibrate by are too few to keep "
            f"the best of {share} of series"
        ]
    else:
        notes = [
            f"keep: the best photo is among those kept in at least {share} of series like those "
            f"of the search, where {known.keep_size:.1f} were kept on average"
        ]
    if not known.beats_chance:
        notes.append(
            "no p_best: on pairs that the model had not seen its probabilities were worse than "
            f"chance (log loss {known.log_loss:.3f}, chance {CHANCE_LOG_LOSS:.3f})"
        )
        return table.assign(p_best=np.nan), notes
    # A softmax over each series, relative to its highest score to avoid overflow.
    odds = np.exp(known.pick_slope * behind)
    return table.assign(p_best=odds / odds.groupby(table["series_id"]).transform("sum")), notes
