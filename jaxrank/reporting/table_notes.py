"""Notes on the whole table: failures, leaks, the effect of a photo's position."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy.special import ndtr, ndtri

from jaxrank.data import splits
from jaxrank.evaluation.evaluator import Evaluator, control_z
from jaxrank.evaluation.trial_results import COMPLETED, FAILED, TrialResult
from jaxrank.experiments.few_pairs import FEWEST_STEPS
from jaxrank.experiments.hyperparameters import SHUFFLED
from jaxrank.reporting.summary import PARTIAL, bracket, listed, percent

# Standard errors from one half at which the effect of a photo's position is not chance.
_CLEAR_Z = 4
# Standard errors by which the permutation control may differ from one half. The limit is wide,
# because folds that share training series are dependent: a nominal 95% interval then misses in more
# than 5% of cases (Bates et al. 2023).
CONTROL_LIMIT = 4
LEAKING = "WARNING: something leaks"


def table_notes(
    summary: pd.DataFrame,
    results: Sequence[TrialResult],
    evaluator: Evaluator,
    ceiling: Mapping[str, float] | None,
) -> list[str]:
    """Returns the notes on the summary table.

    Args:
      summary: the rows of `summary.csv`.
      results: results of all trials, without experiments dropped by a rung.
      evaluator: evaluator that measured the results.
      ceiling: accuracies of the best possible scorer; None unless the data are simulated.
    """
    lines = []
    trained = summary[(summary["status"] == COMPLETED) & (summary["experiment_name"] != SHUFFLED)]
    if not len(trained) and not (summary["status"] == PARTIAL).any():
        lines.append("Every trial failed: see the column 'error' of summary.csv.")
    partial = summary.loc[summary["status"] == PARTIAL, "experiment_name"]
    failed = summary.loc[summary["status"] == FAILED, "experiment_name"]
    if len(partial):
        lines.append(
            f"Some trials failed: {listed(partial)}. Their figures are of the other trials; "
            "--retry_failed trains these again."
        )
    if len(failed) and len(trained):
        lines.append(f"All trials failed: {listed(failed)}. See the column 'error' of summary.csv.")
    if (
        ceiling is not None
        and np.isfinite([ceiling["val_accuracy"], ceiling["test_accuracy"]]).all()
    ):
        lines.append(
            "The data are SIMULATED, so the ceiling is known: the best possible scorer of these "
            f"features orders {percent(ceiling['val_accuracy'])} of the validation and "
            f"{percent(ceiling['test_accuracy'])} of the test pairs."
        )
    lines += _control(results, evaluator)
    few = _few_steps(results, evaluator)
    if few:
        lines.append(
            f"Hardly trained, with fewer than {FEWEST_STEPS} steps a trial: {listed(few)}. With "
            "so few pairs make batch_size smaller, and learning_rate and patience larger."
        )
    lines.append(
        "Top-1 and tau (of test series) measure the order of each series' photos, by "
        f"{evaluator.strength_source}."
    )
    return lines


def _control(results: Sequence[TrialResult], evaluator: Evaluator) -> list[str]:
    """Reports the permutation control, and warns if its accuracy indicates a leak."""
    accuracy, z = control_z([r for r in results if r.trial.experiment.is_control], evaluator)
    if np.isnan(z):
        return []
    found = (
        f"the permutation control '{SHUFFLED}' has a test accuracy of {percent(accuracy)} "
        f"({_in_words(z)}; flagged beyond {CONTROL_LIMIT})"
    )
    if abs(z) <= CONTROL_LIMIT:
        return [f"No leak found: {found}."]
    return [f"{LEAKING}: {found}. The test pairs are known from training, or depend on more than "
            "preferences: accuracies of this table are not valid."]  # fmt: skip


def _in_words(z: float) -> str:
    return f"z = {z:+.1f}" if np.isfinite(z) else "z beyond any limit, all series equal"


def _few_steps(results: Sequence[TrialResult], evaluator: Evaluator) -> list[str]:
    """Lists experiments whose trials all stopped after fewer than FEWEST_STEPS steps."""
    most: dict[str, int] = {}
    for result in results:
        if result.metrics.completed and not result.trial.experiment.is_control:
            e = result.trial.experiment
            num_pairs = int((evaluator.splits_FM[result.trial.fold] == splits.TRAIN).sum())
            steps = result.metrics.epochs_run * -(-num_pairs // e.batch_size)
            most[e.name] = max(most.get(e.name, 0), steps)
    return [f"{name} ({steps})" for name, steps in most.items() if steps < FEWEST_STEPS]


def position_notes(accuracy: float, low: float, high: float) -> list[str]:
    """Returns a note where the position of a photo in its pair predicts the preference.

    Args:
      accuracy, low, high: test accuracy of the rule "the first photo wins", and its interval.
    """
    if not (low > 0.5 or high < 0.5):
        return []
    side = "first" if accuracy > 0.5 else "second"
    why = f"people favour the {side} place, or the table lists winners {side} more often"
    # The other bound may be cut off at 0 or 1.
    half_width = accuracy - low if accuracy > 0.5 else high - accuracy
    error = half_width / ndtri(0.975)
    z = abs(accuracy - 0.5) / error if error else np.inf
    return [
        f"Position: the first photo of a pair wins {percent(accuracy)} of the test pairs"
        f"{bracket(low, high, '%')}; 50% is expected. "
        + (
            f"This is not chance: {why}. See how the pairs were made."
            if z > _CLEAR_Z
            else f"If this is not chance (p = {2 * ndtr(-z):.1g}), {why}."
        )
        + " Scores of photos can't use the position, unless the features show it: for example, if "
        "the first photo is always the earlier one."
    ]
