"""Photos scored by what a user named: a saved model, or a baseline that needs no preferences."""

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

# The name of a model among the scorers.
MODEL = "model"


class Scored(NamedTuple):
    """Scores of photos, and what a reader must know of them.

    Attributes:
      name: MODEL, or of the baseline.
      scores: by photo, of those that have a row in all `blocks`.
      blocks: that were read.
      calibration: of a model; a baseline's scores say nothing of preferences.
      seen: see `Model`; a baseline has seen no photo.
      caveats: of the data and of the model.
      notes: what a baseline does.
    """

    name: str
    scores: pd.Series
    blocks: tuple[str, ...]
    calibration: Calibration | None
    seen: Mapping[str, frozenset[str]]
    caveats: list[str]
    notes: list[str]


def open_scorer(model: Model | Path | str | None, baseline: str | None) -> Model | str:
    """The model, loaded, or the name of the baseline.

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
    """The embedded data stand in for a user's own where the model was trained on them, only."""
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
    """Raises UserError where a score is no finite number."""
    wrong = scores.index[~np.isfinite(scores.to_numpy())]
    if len(wrong):
        raise UserError(
            f"the score of photo '{wrong[0]}' is not a finite number; look at its features"
        )
