"""Saved models: everything needed to score a photo.

A model folder holds `params/` (an Orbax checkpoint of weights and scaling), `model.json` (the
experiment and the columns it reads), `photos.json` (the photos that it has seen) and
`checksums.json` (of all other files).
"""

import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
import pandas as pd

from jaxrank.data.dataset import l2_normalised
from jaxrank.data.feature_store import Block, refuse_mixed
from jaxrank.data.inputs import FeaturesInput, read_features
from jaxrank.errors import UserError
from jaxrank.experiments.hyperparameters import Experiment, default_experiment
from jaxrank.io import atomic, seal
from jaxrank.io.documents import read_json
from jaxrank.losses import LEARN_TIES, LOSSES
from jaxrank.models import ACTIVATIONS, Scorer
from jaxrank.scaling import (
    INPUT_SCALINGS,
    STANDARD,
    Scaling,
    fit_scaling,
    normal_score_columns,
)
from jaxrank.training.jax_settings import require_usable_jax
from jaxrank.training.state import InitialWeights

_FORMAT = 5
_MODEL_JSON, _PHOTOS_JSON = "model.json", "photos.json"
# The values of its experiment that say which function a model is.
_FUNCTION_KEYS = ("mlp_hidden_dims", "activation", "use_layernorm", "l2_blocks")
# How a model may have seen a photo.
SEEN = ("train", "val")
_ORBAX_NOTES = 100_000  # bytes that a checkpoint has beside its arrays, generously


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a saved model is, as `model.json` has it.

    Attributes:
      experiment: its hyperparameters.
      fold, seed, best_epoch: of the trial; epochs count from 1.
      slope: the factor that makes its score differences log-odds.
      caveats: what a reader of any result must know.
      recipes: by block that was made of photos, how (see `feature_store.Extraction.key`).
    """

    experiment: Experiment
    fold: int
    seed: int
    best_epoch: int
    val_accuracy: float
    slope: float
    caveats: list[str] = dataclasses.field(default_factory=list)
    recipes: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def scorer(self) -> Scorer:
        e = self.experiment
        return Scorer(e.mlp_hidden_dims, e.activation, e.use_layernorm)


class Model(NamedTuple):
    """One trained scorer.

    Attributes:
      card: what it is.
      block_columns: the blocks it reads, in order, with their column names.
      params: of a `models.Scorer`.
      scaling: fitted on its training photos.
      seen: names of the photos that trained it and of those that chose its epoch; when it began
        from another model, that one's too.
    """

    card: ModelCard
    block_columns: dict[str, tuple[str, ...]]
    params: Any
    scaling: Scaling
    seen: dict[str, frozenset[str]]

    def __repr__(self) -> str:
        return f"Model({self.card})"  # not its weights

    @property
    def weights(self) -> InitialWeights:
        """Parameters and scaling, for training that begins from this model."""
        return InitialWeights(self.params, self.scaling)

    def score(self, features: FeaturesInput) -> pd.Series:
        """Scores of the photos that have a row in every block that the model reads, by name.

        Args:
          features: as `jaxrank.search` takes them.

        Raises:
          UserError: a block is missing, its columns are not the model's, or no photo has all.
        """
        store = read_features(features)
        refuse_mixed({name: b for name, b in store.items() if name in self.block_columns})
        common: pd.Index | None = None
        for name, columns in self.block_columns.items():
            if name not in store:
                raise UserError(f"the model reads block '{name}', which the features lack")
            block = store[name]
            if tuple(block.columns) != columns:
                raise UserError(
                    f"block '{name}' does not have the columns of the model's: "
                    f"{_difference(block.columns, columns)}; make it as for the training"
                )
            self._check_recipe(name, block)
            photos = pd.Index(block.photos)
            common = photos if common is None else common[common.isin(photos)]
        if common is None or common.empty:
            raise UserError("no photo has a row in every block that the model reads")
        raw_ND = np.concatenate(
            [
                np.asarray(
                    store[name].values[pd.Index(store[name].photos).get_indexer(common)],
                    np.float32,
                )
                for name in self.block_columns
            ],
            axis=1,
        )
        l2_blocks = self.card.experiment.l2_blocks
        raw_ND = l2_normalised(raw_ND, self.block_columns, l2_blocks)
        scorer = self.card.scorer
        scores = jax.jit(scorer.apply)(self.params, self.scaling.apply(raw_ND))
        return pd.Series(np.asarray(scores), index=common, name="score")

    def _check_recipe(self, name: str, block: Block) -> None:
        """Columns may have the same names though another network made them."""
        wanted = self.card.recipes.get(name)
        if wanted is not None and block.extraction is not None and block.extraction.key != wanted:
            raise UserError(
                f"block '{name}' ({block.source}) was not made as the one that the model was "
                "trained on: extract it with the same model, weights and options"
            )

    @property
    def digest(self) -> str:
        """What the model computes, as a hash."""
        described = (
            [getattr(self.card.experiment, key) for key in _FUNCTION_KEYS],
            self.block_columns,
        )
        digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
        scaling = _stored(self.scaling).values()
        for leaf in (*jax.tree.leaves(self.params), *scaling):
            digest.update(np.ascontiguousarray(leaf).data)
        return digest.hexdigest()


def _difference(columns: Sequence[str], wanted: Sequence[str]) -> str:
    """Where two lists of columns part."""
    if len(columns) != len(wanted):
        return f"it has {len(columns):,}, the model reads {len(wanted):,}"
    place = next(i for i, name in enumerate(wanted) if columns[i] != name)
    return f"column {place + 1:,} is '{columns[place]}', the model's is '{wanted[place]}'"


def save_model(
    folder: Path,
    card: ModelCard,
    block_columns: dict[str, tuple[str, ...]],
    weights: InitialWeights,
    seen: Mapping[str, Sequence[str]],
) -> None:
    """Writes a model folder, in place of the one that is there; `seen` are photos by how they were
    seen."""
    described = dataclasses.asdict(card)
    record = {"format": _FORMAT, "card": described, "block_columns": block_columns}
    arrays = {"params": weights.params} | _stored(weights.scaling)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(arrays))
    with atomic.atomic_folder(folder) as new, atomic.disk_errors(folder):
        # Asked beforehand: on a full disk TensorStore's threads print a traceback for each array.
        atomic.require_space(new, size + _ORBAX_NOTES)
        with ocp.StandardCheckpointer() as checkpointer:
            checkpointer.save((new / "params").absolute(), arrays)
        atomic.write_text(new / _PHOTOS_JSON, json.dumps(seen, indent=1) + "\n")
        atomic.write_text(new / _MODEL_JSON, json.dumps(record, indent=1) + "\n")
        seal.write_seal(new, seal.checksums(new))


def _stored(scaling: Scaling) -> dict[str, np.ndarray]:
    """A scaling by the names that its arrays have in a model folder; an array of no columns can't
    be stored, and models without normal scores are as those before them."""
    stored = {"mean": scaling.mean_D, "inv_std": scaling.inv_std_D}
    if len(scaling.columns_J):
        stored |= {"knots": scaling.knots_JK, "normal_scores": scaling.scores_JK}
    return stored


def load_model(folder: Path | str) -> Model:
    """Loads what `save_model` wrote.

    Raises:
      UserError: the folder is not a model of this version, or a file in it has changed.
    """
    require_usable_jax()
    folder = Path(folder)
    record = _read(folder / _MODEL_JSON)
    _check_seal(folder, record)
    card = _read_card(record)
    if card is None:
        inside = folder / "model"
        hint = (
            f"did you mean {inside}?"
            if os.path.isfile(inside / _MODEL_JSON)
            else "a search writes one as EXPERIMENT/model"
        )
        raise UserError(f"{folder}: not a model folder (no usable {_MODEL_JSON}); {hint}")
    seen = _read(folder / _PHOTOS_JSON)
    if not isinstance(seen, dict) or not all(_is_names(seen.get(how)) for how in SEEN):
        raise UserError(f"{folder / _PHOTOS_JSON}: missing or damaged; train the model again")
    columns = {name: tuple(names) for name, names in record["block_columns"].items()}
    input_dim = sum(map(len, columns.values()))
    params = jax.eval_shape(
        card.scorer.init,
        jax.random.key(0),
        jax.ShapeDtypeStruct((1, input_dim), np.float32),
    )
    if card.experiment.loss in LEARN_TIES:
        params |= {"loss": {"log_ties": jax.ShapeDtypeStruct((), np.float32)}}
    columns_J = normal_score_columns(columns, list(columns), card.experiment.input_scaling)
    blank = fit_scaling(np.zeros((1, input_dim), np.float32), np.zeros(1, int), columns_J)
    target = {"params": params} | _stored(blank)
    shapes = jax.tree.map(lambda leaf: leaf.shape, target)
    path = (folder / "params").absolute()
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            stored = checkpointer.metadata(path).item_metadata
            if jax.tree.map(lambda leaf: leaf.shape, stored.tree) != shapes:
                raise ValueError(f"they do not have the shapes that {_MODEL_JSON} says")
            saved = checkpointer.restore(path, target)
    except (OSError, ValueError, AttributeError) as error:
        reason = str(error).splitlines()[0][:200]
        raise UserError(f"{folder}: the weights can't be read ({reason})") from None
    return Model(
        card,
        columns,
        saved["params"],
        Scaling(
            np.asarray(saved["mean"]),
            np.asarray(saved["inv_std"]),
            columns_J,
            np.asarray(saved.get("knots", blank.knots_JK)),
            np.asarray(saved.get("normal_scores", blank.scores_JK)),
        ),
        {how: frozenset(seen[how]) for how in SEEN},
    )


def _check_seal(folder: Path, record: Any) -> None:
    """Refuses a model of another version, and one with a file that is not as it was saved: Orbax
    would restore other weights, or end with an error of its own."""
    if not os.path.isfile(folder / _MODEL_JSON):
        return  # no model at all
    found = record.get("format", _FORMAT) if isinstance(record, dict) else _FORMAT
    # Formats before 5 had no seal.
    if found == _FORMAT or (folder / seal.CHECKSUMS).exists():
        try:
            damaged = seal.damage(folder, seal.checksums(folder))
        except OSError as error:
            damaged = f"{error.filename} can't be read, {error.strerror}"
        if damaged:
            raise UserError(
                f"{folder}: damaged since it was saved ({damaged}); take it from a copy, or train "
                "it again"
            )
    if found != _FORMAT:
        raise UserError(
            f"{folder}: a model of another version of jaxrank (format {str(found)[:20]!a}, not "
            f"{_FORMAT}); train it again"
        )


def _read(path: Path) -> Any:
    """What the file says; None where it says nothing."""
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None


def _read_card(record: Any) -> ModelCard | None:
    """The card in the content of a `model.json`; None where that is not one of this version."""
    try:
        if record["format"] != _FORMAT or not record["block_columns"]:
            return None
        values = dict(record["card"])
        saved = values.pop("experiment")
        if not saved.keys() >= {"name", "blocks", "loss", "margin", *_FUNCTION_KEYS}:
            return None
        # Hyperparameters that are newer than the model have their defaults, which change nothing;
        # models before there were normal scores have none.
        defaults = dataclasses.asdict(default_experiment("default")) | {"input_scaling": STANDARD}
        experiment: dict[str, Any] = defaults | {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in saved.items()
        }
        card = ModelCard(experiment=Experiment(**experiment), **values)
        sound = all(_is_names(names) and names for names in record["block_columns"].values())
        return card if sound and _is_sound(card) else None
    except (TypeError, KeyError, AttributeError, ValueError):
        return None


def _is_sound(card: ModelCard) -> bool:
    e = card.experiment
    return (
        isinstance(e.mlp_hidden_dims, tuple)
        and all(type(width) is int and width > 0 for width in e.mlp_hidden_dims)
        and e.activation in tuple(ACTIVATIONS)
        and isinstance(e.use_layernorm, bool)
        and isinstance(e.l2_blocks, tuple)
        and _is_names(list(e.l2_blocks))
        and e.input_scaling in INPUT_SCALINGS
        and e.loss in tuple(LOSSES)
        and isinstance(e.margin, float)
        and all(isinstance(number, int) for number in (card.fold, card.seed, card.best_epoch))
        and isinstance(card.val_accuracy, float)
        and isinstance(card.slope, float)
        and 0 <= card.slope < math.inf
        and _is_names(card.caveats)
        and isinstance(card.recipes, dict)
        and _is_names(list(card.recipes.values()))
    )


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)
