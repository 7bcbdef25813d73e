"""What a saved model is and what is known of it: the record, and its form in `model.json`."""

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

# The values of an experiment that say which function a model is.
FUNCTION_KEYS = ("mlp_hidden_dims", "activation", "use_layernorm", "l2_blocks")
_UNKNOWN = float("nan")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evidence:
    """How good a model is, and on which data it was made; NaN, 0 or empty where unknown.

    Attributes:
      accuracy, low, high: share of held-out pairs in the right order, and its 95% interval.
      measured_on: which pairs, and by which models, in one sentence without a full stop.
      num_pairs, num_series, num_photos: that the model was trained on.
      split: how pairs were dealt to training, validation and test.
      baselines: the accuracy of each on the same pairs.
      ceiling: the accuracy that nothing can exceed on these pairs.
      audit: the audit's verdict and headline.
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
    """What a saved model is, as `model.json` has it.

    Attributes:
      experiment: its hyperparameters.
      fold: whose training pairs it was trained on; None: all pairs that could be used.
      seeds: of its members.
      epochs: of each member, counted from 1; 0 where nothing was trained by epochs.
      val_accuracy: of the validation pairs that chose the epoch; NaN where none did.
      calibration: what its scores say of preferences.
      evidence: how good it is.
      caveats: what a reader of any result must know.
      recipes: how each block that was made of photos was made.
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
    """The card for `model.json`, but for the recipes, which stand with their blocks there."""
    document = dataclasses.asdict(card)
    del document["recipes"]
    return document


def read_card(document: Any, recipes: Mapping[str, Any]) -> ModelCard:
    """The card of which `card_document` has made this.

    Args:
      document: from a file that may hold anything.
      recipes: of the blocks; None for a block that was not made of photos.

    Raises:
      Exception: of many kinds, where it is no such document.
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
    # Hyperparameters that are newer than the model have their defaults, which change nothing.
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
    """A record of numbers and text. A number that is not finite was written as null: it is the
    field's default, or NaN."""
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
    if type(value) is not kind:  # True is no number
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def _are(kind: type, values: Any) -> bool:
    return isinstance(values, Sequence) and all(type(value) is kind for value in values)
