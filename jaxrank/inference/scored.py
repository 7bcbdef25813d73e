"""Scoring of photos by a saved model or by a baseline that needs no preferences."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from jaxrank import baselines
from jaxrank.data.feature_store import Features
from jaxrank.data.inputs import SIMULATED, block_caveats
from jaxrank.errors import UserError
from jaxrank.evaluation.calibration import Calibration
from jaxrank.inference.saved_model import SEEN, Model, load_model

# Name of a saved model among scorers.
MODEL = "model"


class Scored(NamedTuple):
    """Scores of photos, with their calibration and caveats.

    Attributes:
      name: MODEL, or name of the baseline.
      scores: score of each photo with a row in all `blocks`, by photo name.
      blocks: names of the blocks that the scorer reads.
      calibration: calibration of the model; None for a baseline, whose scores give no probabilities
        of preferences.
      seen: see `Model`; empty sets for a baseline.
      caveats: caveats of the data and of the model.
      notes: description of the baseline; empty for a model.
    """

    name: str
    scores: pd.Series
    blocks: tuple[str, ...]
    calibration: Calibration | None
    seen: Mapping[str, frozenset[str]]
    caveats: list[str]
    notes: list[str]


def open_scorer(model: Model | Path | str | None, baseline: str | None) -> Model | str:
    """Returns the loaded model, or the name of the baseline.

    Raises:
      UserError: not exactly one of the two is given.
    """
    if (model is None) == (baseline is None):
        raise UserError("give one of --model and --baseline")
    if model is None:
        assert baseline is not None
        return baseline
    return model if isinstance(model, Model) else load_model(model)


def require_embedded(scorer: Model | str, missing: str) -> None:
    """Raises UserError unless the model was trained on the embedded data.

    Only such a model may use the embedded data in place of missing inputs.

    Args:
      scorer: model, or name of a baseline.
      missing: flags of the missing inputs, for the message.
    """
    if isinstance(scorer, str):
        raise UserError(f"{missing} missing: a baseline has no data of its own")
    if SIMULATED not in scorer.card.caveats:
        raise UserError(f"{missing} missing: the model was not trained on the embedded data")


def score(scorer: Model | str, store: Features, *, simulated: bool) -> Scored:
    """Scores all photos of a store.

    Raises:
      UserError: the features are not those that the scorer reads.
    """
    notes, trained, calibration = [], [], None
    seen: Mapping[str, frozenset[str]] = {how: frozenset() for how in SEEN}
    if isinstance(scorer, Model):
        name, scores, seen = MODEL, scorer.score(store), scorer.seen
        blocks, calibration = tuple(scorer.block_columns), scorer.card.calibration
        trained = [f"the model's training: {caveat}" for caveat in scorer.card.caveats]
    else:
        name, blocks = scorer, (baselines.IQA_BLOCK,)
        scores, note = _baseline_scores(scorer, store)
        notes = [f"{note}; no preference was used"]
    caveats = [
        *([SIMULATED] if simulated else []),
        *trained,
        *block_caveats({block: store[block] for block in blocks}),
    ]
    return Scored(name, scores, blocks, calibration, seen, caveats, notes)


def _baseline_scores(name: str, store: Features) -> tuple[pd.Series, str]:
    if baselines.IQA_BLOCK not in store:
        raise UserError(
            f"--baseline={name}: the features have no block '{baselines.IQA_BLOCK}' (they have "
            f"{','.join(store)}); 'extract' measures it, 'features --block=iqa' imports it"
        )
    block = store[baselines.IQA_BLOCK]
    values = np.asarray(block.values, np.float32)
    scores, note = baselines.scores_without_preferences(name, block.columns, values)
    return pd.Series(scores, index=pd.Index(block.photos), name="score"), note


def check_finite(scores: pd.Series) -> None:
    """Raises UserError if a score is not a finite number."""
    wrong = scores.index[~np.isfinite(scores.to_numpy())]
    if len(wrong):
        raise UserError(
            f"the score of photo '{wrong[0]}' is not a finite number; look at its features"
        )
