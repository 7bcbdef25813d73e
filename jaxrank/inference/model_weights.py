"""Arrays of a saved model: weights and scaling of its members, and their combination.

Axis letters: N photos, K members, J columns with normal scores.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxrank.evaluation.ensembles import Combination
from jaxrank.experiments.hyperparameters import Experiment
from jaxrank.losses import LEARN_TIES
from jaxrank.scaling import NUM_KNOTS, Scaling
from jaxrank.training.state import InitialWeights


def tensors_of(
    members: Sequence[InitialWeights], combination: Combination
) -> dict[str, np.ndarray]:
    """Returns the arrays of a model by their names in `model.safetensors`."""
    tensors = {}
    for k, (params, scaling) in enumerate(members):
        arrays = dict(params["params"]) | params.get("loss", {})
        arrays |= {"mean": scaling.mean_D, "inv_std": scaling.inv_std_D}
        if len(scaling.columns_J):
            arrays |= {"knots": scaling.knots_JK, "normal_scores": scaling.scores_JK}
        for name, array in arrays.items():
            tensors[f"member_{k}/{name}"] = np.asarray(array, np.float32, order="C")
    return tensors | {
        "member_mean": np.asarray(combination.member_mean_K, np.float64),
        "member_deviation": np.asarray(combination.member_deviation_K, np.float64),
        "mean": np.array([combination.mean], np.float64),
        "deviation": np.array([combination.deviation], np.float64),
    }


def from_tensors(
    tensors: Mapping[str, np.ndarray],
    experiment: Experiment,
    input_dim: int,
    columns_J: np.ndarray,
    num_members: int,
) -> tuple[tuple[InitialWeights, ...], Combination]:
    """Restores the members and their combination from arrays.

    Args:
      tensors: arrays of an untrusted file, by name.
      experiment: hyperparameters of the members.
      input_dim: number of input columns.
      columns_J: indices of the columns with normal scores.
      num_members: expected number of members.

    Raises:
      ValueError: the arrays do not match the model in number, name, type, shape or range.
    """
    shapes = _shapes(experiment, input_dim, len(columns_J))
    # Checked before the names are generated: a forged number of members must not exhaust memory.
    if len(tensors) != num_members * len(shapes) + 4:
        raise ValueError(
            f"the number of arrays, {len(tensors):,}, does not match {num_members:,} members"
        )
    expected = {
        f"member_{k}/{name}": ("float32", shape)
        for k in range(num_members)
        for name, shape in shapes.items()
    }
    expected |= dict.fromkeys(("member_mean", "member_deviation"), ("float64", (num_members,)))
    expected |= dict.fromkeys(("mean", "deviation"), ("float64", (1,)))
    for name, (dtype, shape) in expected.items():
        if name not in tensors:
            raise ValueError(f"'{name}' is missing")
        array = tensors[name]
        if array.dtype.name != dtype or array.shape != shape:
            raise ValueError(
                f"'{name}' is {array.dtype} {list(array.shape)}, not {dtype} {list(shape)}"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"'{name}' has a value that is not a finite number")
    if (tensors["member_deviation"] <= 0).any() or tensors["deviation"][0] <= 0:
        raise ValueError("a deviation is not above 0")
    blank = np.zeros((0, NUM_KNOTS), np.float32)
    members = []
    for k in range(num_members):
        mine = {name: tensors[f"member_{k}/{name}"] for name in shapes}
        scaling = Scaling(
            mine.pop("mean"),
            mine.pop("inv_std"),
            columns_J,
            mine.pop("knots", blank),
            mine.pop("normal_scores", blank),
        )
        if (np.diff(scaling.knots_JK) < 0).any():
            raise ValueError(f"'member_{k}/knots' do not rise")
        params: dict[str, Any] = {"params": mine}
        if "log_ties" in mine:
            params["loss"] = {"log_ties": mine.pop("log_ties")}
        members.append(InitialWeights(params, scaling))
    combination = Combination(
        tensors["member_mean"],
        tensors["member_deviation"],
        float(tensors["mean"][0]),
        float(tensors["deviation"][0]),
    )
    return tuple(members), combination


def _shapes(experiment: Experiment, input_dim: int, num_normal: int) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a member's arrays by name; see `models.Scorer`."""
    hidden_dims = experiment.mlp_hidden_dims
    widths = (input_dim, *hidden_dims, 1)
    shapes: dict[str, tuple[int, ...]] = {
        f"kernel_{layer}": (widths[layer + 1], widths[layer]) for layer in range(len(widths) - 1)
    }
    shapes |= {f"bias_{layer}": (width,) for layer, width in enumerate(hidden_dims)}
    if experiment.loss in LEARN_TIES:
        shapes["log_ties"] = ()
    shapes |= {"mean": (input_dim,), "inv_std": (input_dim,)}
    if num_normal:
        shapes |= dict.fromkeys(("knots", "normal_scores"), (num_normal, NUM_KNOTS))
    return shapes
