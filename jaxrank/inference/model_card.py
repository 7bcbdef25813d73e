"""Model cards: description and evidence of a saved model, and their form in `model.json`."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrank.data.feature_store import Recipe, are_options
from jaxrank.evaluation.calibration import Calibration
from jaxrank.experiments.hyperparameters import Experiment, default_experiment
from jaxrank.losses import LOSSES
from jaxrank.models import ACTIVATIONS, Scorer
from jaxrank.scaling import INPUT_SCALINGS

# Hyperparameters that determine the function that a model computes.
FUNCTION_KEYS = ("mlp_hidden_dims", "activation", "use_layernorm", "l2_blocks")
_UNKNOWN = float("nan")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evidence:
    """Accuracy and training data of a model; NaN, 0 or empty where unknown.

    Attributes:
      accuracy, low, high: share of held-out pairs in the right order, and its 95% interval.
      measured_on: the held-out pairs and the models measured, as a sentence without a full stop.
      num_pairs, num_series, num_photos: numbers of training pairs, series and photos.
      split: how pairs were split into training, validation and test pairs.
      baselines: accuracy on the same pairs, by baseline.
      ceiling: maximum accuracy that any scorer can have on these pairs.
      audit: verdict and headline of the audit.
    """

    accuracy: float = _UNKNOWN
    low: float = _UNKNOWN
    high: float = _UNKNOWN
    measured_on: str = ""
    num_pairs: int = 0
    num_series: int = 0
    num_photos: int = 0
    split: str = ""
    baselines: dict[str, float] = dataclasses.field(default_factory=dict)
    ceiling: float = _UNKNOWN
    audit: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelCard:
    """Description of a saved model, stored in `model.json`.

    Attributes:
      experiment: hyperparameters of the model.
      fold: fold whose training pairs trained the model; None if all usable pairs did.
      seeds: seeds of the members.
      epochs: epoch of each member, counted from 1; 0 for a member not trained by epochs.
      val_accuracy: accuracy on the validation pairs that chose the epoch; NaN without such pairs.
      calibration: conversion of scores to probabilities of preferences.
      evidence: accuracy and training data of the model.
      caveats: warnings that apply to every result.
      recipes: how blocks were extracted from photos, by block.
    """

    experiment: Experiment
    fold: int | None
    seeds: tuple[int, ...]
    epochs: tuple[int, ...]
    val_accuracy: float
    calibration: Calibration
    evidence: Evidence = dataclasses.field(default_factory=Evidence)
    caveats: list[str] = dataclasses.field(default_factory=list)
    recipes: dict[str, Recipe] = dataclasses.field(default_factory=dict)

    @property
    def scorer(self) -> Scorer:
        e = self.experiment
        return Scorer(e.mlp_hidden_dims, e.activation, e.use_layernorm)


def card_document(card: ModelCard) -> dict[str, Any]:
    """Converts a card to JSON without its recipes, which `model.json` stores with the blocks."""
    document = dataclasses.asdict(card)
    del document["recipes"]
    return document


def read_card(document: Any, recipes: Mapping[str, Any]) -> ModelCard:
    """Restores a card from the document that `card_document` made.

    Args:
      document: content of an untrusted file.
      recipes: recipe of each block; None for a block that was not extracted from photos.

    Raises:
      Exception: of many types, where the document is invalid.
    """
    values = dict(document)
    card = ModelCard(
        experiment=_read_experiment(values.pop("experiment")),
        fold=None if (fold := values.pop("fold")) is None else _as(int, fold),
        seeds=tuple(_as(int, seed) for seed in _as(list, values.pop("seeds"))),
        epochs=tuple(_as(int, epoch) for epoch in _as(list, values.pop("epochs"))),
        val_accuracy=_number(values.pop("val_accuracy"), _UNKNOWN),
        calibration=_read_flat(Calibration, values.pop("calibration")),
        evidence=_read_flat(Evidence, values.pop("evidence")),
        caveats=[_as(str, caveat) for caveat in _as(list, values.pop("caveats"))],
        recipes={
            name: _read_recipe(recipe) for name, recipe in recipes.items() if recipe is not None
        },
    )
    if values:
        raise ValueError(f"{next(iter(values))} is unknown")
    for slope in (card.calibration.slope, card.calibration.pick_slope):
        if slope < 0 or math.isinf(slope):
            raise ValueError(f"a slope of {slope}")
    return card


def _read_experiment(saved: Any) -> Experiment:
    if not saved.keys() >= {"name", "blocks", "loss", "margin", "input_scaling", *FUNCTION_KEYS}:
        raise ValueError("the experiment lacks what says which function the model is")
    # Hyperparameters newer than the model take their defaults, which leave the function unchanged.
    values: dict[str, Any] = dataclasses.asdict(default_experiment("default")) | {
        name: tuple(value) if isinstance(value, list) else value for name, value in saved.items()
    }
    e = Experiment(**values)
    sound = (
        isinstance(e.name, str)
        and _are(str, e.blocks)
        and _are(int, e.mlp_hidden_dims)
        and all(width > 0 for width in e.mlp_hidden_dims)
        and e.activation in tuple(ACTIVATIONS)
        and isinstance(e.use_layernorm, bool)
        and _are(str, e.l2_blocks)
        and e.input_scaling in INPUT_SCALINGS
        and e.loss in tuple(LOSSES)
        and isinstance(e.margin, float)
    )
    if not sound:
        raise ValueError("the experiment is damaged")
    return e


def _read_recipe(saved: Any) -> Recipe:
    if not are_options(saved["options"]):
        raise ValueError("the options of a block are damaged")
    return Recipe(_as(str, saved["source"]), _as(dict, saved["recipe"]), saved["options"])


def _read_flat(kind: Any, saved: Any) -> Any:
    """Restores a dataclass of numbers and text.

    Numbers that are not finite were written as null. They become the field's default, or NaN.
    """
    values = dict(saved)
    known = {field.name: field for field in dataclasses.fields(kind)}
    for name, value in values.items():
        field = known[name]
        if field.type is float:
            unknown = _UNKNOWN if field.default is dataclasses.MISSING else field.default
            values[name] = _number(value, unknown)
        elif field.type in (int, str):
            values[name] = _as(field.type, value)
        else:
            values[name] = {key: _number(item, _UNKNOWN) for key, item in value.items()}
    return kind(**values)


def _number(value: Any, unknown: Any) -> float:
    if value is None:
        return unknown
    return float(value) if type(value) is int else _as(float, value)


def _as(kind: Any, value: Any) -> Any:
    if type(value) is not kind:  # isinstance would accept True as a number
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def _are(kind: type, values: Any) -> bool:
    return isinstance(values, Sequence) and all(type(value) is kind for value in values)
