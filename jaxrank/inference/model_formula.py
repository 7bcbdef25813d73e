"""Function of a saved model: architecture as data, and formula in words and as steps."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxrank.experiments.hyperparameters import Experiment

_ACTIVATIONS = {
    "relu": "max(h, 0)",
    "gelu": "h * (1 + erf(h / sqrt(2))) / 2",
    "tanh": "tanh(h)",
}


def architecture_of(
    experiment: Experiment,
    block_columns: Mapping[str, Sequence[str]],
    normal_score_columns: Sequence[int],
    num_members: int,
) -> dict[str, Any]:
    """Returns the architecture for `model.json`: what computing scores needs besides weights."""
    return {
        "inputs": sum(map(len, block_columns.values())),
        "l2_blocks": [name for name in block_columns if name in experiment.l2_blocks],
        "normal_score_columns": list(normal_score_columns),
        "layernorm": experiment.use_layernorm,
        "hidden_dims": list(experiment.mlp_hidden_dims),
        "activation": experiment.activation,
        "members": num_members,
    }


def formula_of(
    architecture: Mapping[str, Any], block_columns: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Returns the formula in words and as steps on arrays.

    Arrays are named as in the file of weights, without the member's prefix.
    """
    steps = [f"x = the columns of the blocks {', '.join(block_columns)} side by side, as they are"]
    if architecture["l2_blocks"]:
        names = ", ".join(architecture["l2_blocks"])
        steps.append(f"x[block] = x[block] / sqrt(sum(x[block]^2)), zero stays, of: {names}")
    if architecture["normal_score_columns"]:
        steps.append(
            "x[c] = the linear interpolation of normal_scores[j] over knots[j] at x[c], constant "
            "beyond their ends, for column c = normal_score_columns[j], which count from 0"
        )
    steps.append("h = (x - mean) * inv_std")
    if architecture["layernorm"]:
        steps.append("h = (h - average(h)) / sqrt(variance(h) + 1e-5)")
    for layer, _ in enumerate(architecture["hidden_dims"]):
        steps.append(f"h = kernel_{layer} @ h + bias_{layer}")
        steps.append(f"h = {_ACTIVATIONS[architecture['activation']]}")
    steps.append(f"s = kernel_{len(architecture['hidden_dims'])} @ h")
    steps.append(
        "score = (average over members k of (s[k] - member_mean[k]) / member_deviation[k] - mean) "
        "/ deviation, with the mean and deviation that belong to no member"
    )
    return {"words": _in_words(architecture), "steps": steps}


def _in_words(architecture: Mapping[str, Any]) -> str:
    widths = architecture["hidden_dims"]
    if widths:
        layers = " and ".join(map(str, widths))
        kind = (
            f"a network with {'one hidden layer' if len(widths) == 1 else 'hidden layers'} of "
            f"{layers} units ({architecture['activation']}) scores it"
        )
    else:
        kind = "a linear function scores it"
    scaled = "normal scores, " if architecture["normal_score_columns"] else ""
    number = architecture["members"]
    several = f"; the score is the standardised mean of {number} such members" if number > 1 else ""
    return (
        f"A photo is {architecture['inputs']:,} numbers; they are scaled ({scaled}mean 0 and "
        f"variance 1 over the training photos), and {kind}{several}. Of two photos of one series "
        "the one with the higher score is preferred."
    )
