"""What a reader of a search's table must know, in sentences."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from jaxrank.data import splits
from jaxrank.evaluate import (
    COMPLETED,
    TrialResult,
    Yardstick,
    control_z,
)
from jaxrank.experiments.hyperparameters import SHUFFLED
from jaxrank.report import PARTIAL, RULE, percent

# Below this, early stopping has judged first weights, not training.
FEWEST_STEPS = 100
# Standard errors by which the control may be off one half. Folds that share training series are
# dependent, so an interval of 95% is left more often than it says (Bates et al. 2023): wide.
CONTROL_LIMIT = 4
LEAKING = "WARNING: something leaks"


def remarks(
    summary: pd.DataFrame,
    results: Sequence[TrialResult],
    yardstick: Yardstick,
    ceiling: Mapping[str, float] | None,
) -> list[str]:
    """The sentences below the table.

    Args:
      summary: the rows of `summary.csv`.
      results: of all trials.
      yardstick: that they were measured with.
      ceiling: for simulated data, the accuracies of the best possible scorer.
    """
    lines = []
    trained = summary[(summary["status"] == COMPLETED) & (summary["experiment_name"] != SHUFFLED)]
    if len(trained):
        best = trained.iloc[0]
        rules = summary[summary["status"] == RULE]
        # By more than 32-bit means are rounded.
        better = rules[rules["val_accuracy"] > best["val_accuracy"] + 1e-6]
        if len(better):
            rule = better.iloc[0]
            lines.append(
                f"The rule '{rule['experiment_name']}' is right on more of the validation pairs, "
                f"{percent(rule['val_accuracy'])} against {percent(best['val_accuracy'])}: on "
                "these, nothing that was trained beats it."
            )
    elif not (summary["status"] == PARTIAL).any():
        lines.append("Every trial failed: see the column 'error' of summary.csv.")
    if ceiling is not None:
        lines.append(
            "The data are SIMULATED, so the ceiling is known: the best possible scorer of these "
            f"features orders {percent(ceiling['val_accuracy'])} of the validation and "
            f"{percent(ceiling['test_accuracy'])} of the test pairs."
        )
    lines += _control(results, yardstick)
    few = _few_steps(results, yardstick)
    if few:
        lines.append(
            f"Hardly trained, with fewer than {FEWEST_STEPS} steps a trial: {', '.join(few)}. With "
            "so few pairs make batch_size smaller, and learning_rate and patience larger."
        )
    lines.append(
        "Top-1 and tau (of test series) measure the order of each series' photos, by "
        f"{yardstick.worth}."
    )
    return lines


def _control(results: Sequence[TrialResult], yardstick: Yardstick) -> list[str]:
    """What the control with renumbered photos has found."""
    accuracy, z = control_z([r for r in results if r.trial.experiment.renumbered], yardstick)
    if np.isnan(z):
        return []
    found = (
        f"the control '{SHUFFLED}', trained and tested on renumbered photos, is right on "
        f"{percent(accuracy)} of the test pairs (z = {z:+.1f}; flagged beyond {CONTROL_LIMIT})"
    )
    if abs(z) <= CONTROL_LIMIT:
        return [f"Nothing seems to leak: {found}."]
    return [f"{LEAKING}: {found}. The test pairs are known from training, or hold something but "
            "preferences: no accuracy of this table counts."]  # fmt: skip


def _few_steps(results: Sequence[TrialResult], yardstick: Yardstick) -> list[str]:
    """The experiments all of whose trials stopped after fewer than FEWEST_STEPS steps."""
    most: dict[str, int] = {}
    for result in results:
        if result.row["status"] == COMPLETED and not result.trial.experiment.renumbered:
            e = result.trial.experiment
            num_pairs = int((yardstick.parts_FM[result.trial.fold] == splits.TRAIN).sum())
            steps = result.row["epochs_run"] * -(-num_pairs // e.batch_size)
            most[e.name] = max(most.get(e.name, 0), steps)
    return [f"{name} ({steps})" for name, steps in most.items() if steps < FEWEST_STEPS]
