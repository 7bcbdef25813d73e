"""Saved models: everything needed to score a photo, in files that any language can read.

Files of a model folder:

- `model.safetensors`: weights, scaling, and the combination of members.
- `model.json`: description and formula of the model.
- `photos.json`: names of the photos that the model has seen.
- `test_vectors.npz`: inputs and their scores.
- `README.md`: the model card.
- `checksums.json`: checksums of the other files.

Axis letters: N photos, D columns that the model reads, K members.
"""

import functools
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
import safetensors.numpy

from jaxrank.data.dataset import l2_normalised
from jaxrank.data.feature_store import Block, refuse_mixed
from jaxrank.data.inputs import FeaturesInput, read_features
from jaxrank.errors import UserError, program
from jaxrank.inference.model_card import FUNCTION_KEYS, ModelCard, card_document, read_card
from jaxrank.inference.model_formula import architecture_of, formula_of
from jaxrank.inference.model_readme import readme
from jaxrank.inference.model_weights import Combination, from_tensors, tensors_of
from jaxrank.io import atomic, reading, seal
from jaxrank.io.documents import read_json, strict_json
from jaxrank.models import Scorer
from jaxrank.training.jax_settings import require_usable_jax
from jaxrank.training.state import InitialWeights, Params

FORMAT = 6
MODEL_JSON, WEIGHTS, TEST_VECTORS = "model.json", "model.safetensors", "test_vectors.npz"
_PHOTOS_JSON, _README = "photos.json", "README.md"
# Subfolder of a search's folder with the final model.
FINAL = "final"
# How a model may have seen a photo.
SEEN = ("train", "val")
_MOST_TEST_VECTORS = 16


class Model(NamedTuple):
    """A trained scorer: one network, or several whose scores are combined.

    Attributes:
      card: description of the model.
      block_columns: column names of the blocks that the model reads, in order, by block.
      members: for each network, parameters of its layers and the scaling fitted on its
        training photos.
      combination: how the members' scores are combined to one score.
      seen: names of the photos that trained the model ("train") and of the photos that chose its
        epoch ("val"). If training began from another model, the photos of that model are included.
    """

    card: ModelCard
    block_columns: dict[str, tuple[str, ...]]
    members: tuple[InitialWeights, ...]
    combination: Combination
    seen: Mapping[str, frozenset[str]]

    def __repr__(self) -> str:
        return f"Model({self.card})"  # without the weights

    @property
    def weights(self) -> InitialWeights:
        """Parameters and scaling of the only member, for training that starts from this model.

        Raises:
          UserError: the model has several members.
        """
        if len(self.members) > 1:
            raise UserError(
                f"the model is an ensemble of {len(self.members)}, and training begins from one "
                "network: give the model of one trial, EXPERIMENT/model in the folder of a search"
            )
        return self.members[0]

    def score(self, features: FeaturesInput) -> pd.Series:
        """Scores the photos that have a row in every block that the model reads.

        Args:
          features: as in `jaxrank.search`.

        Returns:
          Scores by photo name.

        Raises:
          UserError: a block is missing, was made differently, or has other columns than the
            model's; or no photo has a row in all blocks.
        """
        store = read_features(features)
        refuse_mixed({name: b for name, b in store.items() if name in self.block_columns})
        common: pd.Index | None = None
        for name, columns in self.block_columns.items():
            if name not in store:
                raise UserError(
                    f"the model reads block '{name}', which the features lack{self._advice(name)}"
                )
            block = store[name]
            if tuple(block.columns) != columns:
                raise UserError(
                    f"block '{name}' does not have the columns of the model's: "
                    f"{_difference(block.columns, columns)}"
                    f"{self._advice(name) or '; make it as for the training'}"
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
        return pd.Series(self.score_rows(raw_ND), index=common, name="score")

    def score_rows(self, raw_ND: np.ndarray) -> np.ndarray:
        """Scores rows of unscaled features.

        Args:
          raw_ND: unscaled features, float [N, D]: the columns of the blocks side by side, in the
            order of `block_columns`. They are not checked.

        Returns:
          Scores, float32 [N].
        """
        inputs_ND = l2_normalised(raw_ND, self.block_columns, self.card.experiment.l2_blocks)
        scorer = self.card.scorer
        scores = [_apply(scorer, m.params, m.scaling.apply(inputs_ND)) for m in self.members]
        return self.combination.apply(np.stack([np.asarray(scores_N) for scores_N in scores]))

    def _check_recipe(self, name: str, block: Block) -> None:
        """Raises UserError if the block was made differently from the block used in training.

        Column names do not show that, because different networks may use the same names.
        """
        wanted = self.card.recipes.get(name)
        if wanted is None or block.extraction is None or block.extraction.key == wanted.key:
            return
        advice = self._advice(name) or "; extract it with the same model, weights and options"
        raise UserError(
            f"block '{name}' ({block.source}) was not made as the one that the model was "
            f"trained on ({wanted.source}){advice}"
        )

    def _advice(self, name: str) -> str:
        """Suggests the command that makes a suitable block; empty where that is unknown."""
        recipe = self.card.recipes.get(name)
        flags = "" if recipe is None else recipe.flags(name)
        return f"; make it by: {program()} extract {flags}" if flags else ""

    @property
    def digest(self) -> str:
        """Hash of the function that the model computes."""
        described = (
            [getattr(self.card.experiment, key) for key in FUNCTION_KEYS],
            self.block_columns,
        )
        digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
        for name, array in sorted(tensors_of(self.members, self.combination).items()):
            digest.update(name.encode())
            digest.update(array.data)
        return digest.hexdigest()


@functools.partial(jax.jit, static_argnums=0)
def _apply(scorer: Scorer, params: Params, inputs_ND: jax.Array) -> jax.Array:
    """Scores of one network; compiled once for all models of one architecture."""
    scores_N: Any = scorer.apply(params, inputs_ND)
    return scores_N


def _difference(columns: Sequence[str], wanted: Sequence[str]) -> str:
    """Describes the first difference between two lists of columns."""
    if len(columns) != len(wanted):
        return f"it has {len(columns):,}, the model reads {len(wanted):,}"
    place = next(i for i, name in enumerate(wanted) if columns[i] != name)
    return f"column {place + 1:,} is '{columns[place]}', the model's is '{wanted[place]}'"


def save_model(folder: Path, model: Model, raw_ND: np.ndarray) -> None:
    """Writes a model folder, replacing an existing one. Equal models have equal files.

    Args:
      folder: folder to write.
      model: model whose members all have normal scores for the same columns.
      raw_ND: float32 rows of training photos, as in `Model.score_rows`; those at `chosen_rows` are
        enough. They are saved with their scores to test other implementations.
    """
    columns_J = model.members[0].scaling.columns_J
    assert all(np.array_equal(m.scaling.columns_J, columns_J) for m in model.members)
    assert (model.combination.member_deviation_K > 0).all()
    assert model.combination.deviation > 0
    weights = safetensors.numpy.save(tensors_of(model.members, model.combination))
    architecture = architecture_of(
        model.card.experiment, model.block_columns, columns_J.tolist(), len(model.members)
    )
    blocks = [
        {"name": name, "columns": columns, "recipe": _recipe_document(model.card, name)}
        for name, columns in model.block_columns.items()
    ]
    record = {
        "format": FORMAT,
        "formula": formula_of(architecture, model.block_columns),
        "architecture": architecture,
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        "card": card_document(model.card),
        "blocks": blocks,
    }
    seen = {how: sorted(model.seen[how]) for how in SEEN}
    with atomic.atomic_folder(folder) as new:
        (new / WEIGHTS).write_bytes(weights)
        (new / TEST_VECTORS).write_bytes(_test_vectors(model, raw_ND))
        atomic.write_text(new / _PHOTOS_JSON, json.dumps(seen, indent=1) + "\n")
        atomic.write_text(new / MODEL_JSON, strict_json(record))
        atomic.write_text(new / _README, readme(model.card, architecture, model.block_columns))
        seal.write_seal(new, seal.checksums(new))


def _recipe_document(card: ModelCard, name: str) -> dict[str, Any] | None:
    return card.recipes[name]._asdict() if name in card.recipes else None


def chosen_rows(rows: np.ndarray) -> np.ndarray:
    """Evenly spaced rows of the given ones, as many as a model's test vectors."""
    return rows[np.unique(np.linspace(0, len(rows) - 1, _MOST_TEST_VECTORS).astype(int))]


def _test_vectors(model: Model, raw_ND: np.ndarray) -> bytes:
    """Returns a .npz archive of `inputs` [N, D], evenly spaced rows, and their `scores` [N]."""
    inputs_ND = np.asarray(chosen_rows(raw_ND), np.float32)
    file = io.BytesIO()
    np.savez(file, inputs=inputs_ND, scores=model.score_rows(inputs_ND))
    return file.getvalue()


def load_model(folder: Path | str) -> Model:
    """Loads a model that `save_model` wrote.

    Args:
      folder: folder of a model, or of a search, whose final model is loaded.

    Raises:
      UserError: the folder has no model, a model of another version, or a damaged file.
    """
    require_usable_jax()
    folder = model_folder(folder)
    _check_seal(folder)
    try:
        record = read_json(folder / MODEL_JSON)
        card, columns, columns_J, num_members = _read_record(record)
    except Exception:  # the file may contain anything if its checksums were recomputed
        raise UserError(
            f"{folder}: not a model folder (no usable {MODEL_JSON}); take it from a copy, or "
            "train it again"
        ) from None
    seen = _read_seen(folder / _PHOTOS_JSON)
    try:
        weights = reading.read_whole(folder / WEIGHTS, reading.ARRAY)
        if hashlib.sha256(weights).hexdigest() != record["weights_sha256"]:
            raise ValueError(f"they do not match {MODEL_JSON}")
        tensors = safetensors.numpy.load(weights)
        input_dim = sum(map(len, columns.values()))
        members, combination = from_tensors(
            tensors, card.experiment, input_dim, columns_J, num_members
        )
    except Exception as error:  # a damaged header raises many types
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"{folder}: the weights can't be read ({reason})") from None
    return Model(card, columns, members, combination, seen)


def model_folder(folder: Path | str) -> Path:
    """Returns the given folder if it holds a model, else the folder of the search's final model.

    Raises:
      UserError: there is no model.
    """
    folder = Path(folder)
    for found in (folder, folder / FINAL):
        if os.path.isfile(found / MODEL_JSON):
            return found
    inside = folder / "model"
    hint = (
        f"did you mean {inside}?"
        if os.path.isfile(inside / MODEL_JSON)
        else f"a search writes one as EXPERIMENT/model and as {FINAL}"
    )
    raise UserError(f"{folder}: not a model folder (no usable {MODEL_JSON}); {hint}")


def _check_seal(folder: Path) -> None:
    """Raises UserError if the model is damaged or was saved by another version.

    Damage is checked before the files are used. Added files, such as a repository's, are ignored.
    """
    if not os.path.isfile(folder / WEIGHTS):
        _refuse_other_format(folder)
    try:
        damaged = seal.first_change(folder, seal.checksums(folder, "*"), may_have_more=True)
    except OSError as error:
        damaged = f"{error.filename} can't be read, {error.strerror}"
    if damaged:
        raise UserError(
            f"{folder}: damaged since it was saved ({damaged}); take it from a copy, or train "
            "it again"
        )
    _refuse_other_format(folder)


def _refuse_other_format(folder: Path) -> None:
    try:
        found = read_json(folder / MODEL_JSON)["format"]
    except (OSError, ValueError, TypeError, KeyError):
        return
    if found != FORMAT:
        raise UserError(
            f"{folder}: a model of another version of jaxrank (format {str(found)[:20]!a}, not "
            f"{FORMAT}); train it again"
        )


def _read_record(record: Any) -> tuple[ModelCard, dict[str, tuple[str, ...]], np.ndarray, int]:
    """Reads the content of `model.json`.

    Returns:
      The card, the columns of each block, the indices of columns with normal scores, and the number
      of members.

    Raises:
      Exception: of many types, where `save_model` did not write the content.
    """
    columns, recipes = {}, {}
    for block in record["blocks"]:
        names = block["columns"]
        if not (_is_names([block["name"]]) and _is_names(names) and names):
            raise ValueError("a block without columns")
        columns[block["name"]] = tuple(names)
        recipes[block["name"]] = block["recipe"]
    if not columns or len(columns) != len(record["blocks"]):
        raise ValueError("no blocks, or two of one name")
    card = read_card(record["card"], recipes)
    said = record["architecture"]
    chosen, num_members = said["normal_score_columns"], said["members"]
    width = sum(map(len, columns.values()))
    if not all(type(place) is int and 0 <= place < width for place in chosen):
        raise ValueError("normal scores of columns that there are not")
    if type(num_members) is not int or num_members < 1 or sorted({*chosen}) != chosen:
        raise ValueError("a damaged architecture")
    if architecture_of(card.experiment, columns, chosen, num_members) != said:
        raise ValueError("the architecture does not match the experiment")
    return card, columns, np.array(chosen, np.int32), num_members


def _read_seen(path: Path) -> dict[str, frozenset[str]]:
    try:
        seen = read_json(path)
    except (OSError, ValueError):
        seen = None
    if not isinstance(seen, dict) or not all(_is_names(seen.get(how)) for how in SEEN):
        raise UserError(f"{path}: missing or damaged; train the model again")
    return {how: frozenset(seen[how]) for how in SEEN}


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)
