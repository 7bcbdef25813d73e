"""README.md of a saved model: its model card (Mitchell et al. 2019) in Markdown."""

import html
import math
from collections.abc import Mapping, Sequence
from typing import Any

from jaxrank.data.feature_store import Recipe
from jaxrank.evaluation.calibration import Calibration
from jaxrank.inference.model_card import Evidence, ModelCard
from jaxrank.inference.model_formula import formula_of
from jaxrank.io.printable import printable

_LOADING = """```python
import jaxrank

model = jaxrank.load_model("FOLDER")  # of this file
scores = model.score("store")  # a feature store; a pandas Series by photo
picks = jaxrank.rank_photos(model, "store", "store/series.csv").table

# With NumPy alone, after: jaxrank export --model=FOLDER --format=numpy --out=scorer.py
import scorer

scores = scorer.score(scorer.load("FOLDER"), rows)  # rows [photos, INPUTS], blocks side by side
```"""


def readme(
    card: ModelCard, architecture: Mapping[str, Any], block_columns: Mapping[str, Sequence[str]]
) -> str:
    """Renders the model card as Markdown; unknown facts are stated as unknown."""
    formula = formula_of(architecture, block_columns)
    parts = [
        f"# {_text(card.experiment.name)}: a scorer of photos, by jaxrank",
        formula["words"],
        "## Data",
        _bullets(_data(card)),
        "## Accuracy",
        *_accuracy(card.evidence, card.val_accuracy),
        "## Calibration",
        _bullets(_calibration(card.calibration)),
        "## Audit",
        _text(card.evidence.audit) + "." * (not card.evidence.audit.endswith("."))
        if card.evidence.audit
        else "Unknown: no audit of the data is noted here.",
        "## Limits",
        _bullets([*map(_text, card.caveats), *_limits(card)]),
        "## Inputs",
        _bullets([_input(name, columns, card) for name, columns in block_columns.items()]),
        "## Formula",
        "Arrays have the names that they have in `model.safetensors`, there with `member_K/` "
        "before those of a member. `test_vectors.npz` has inputs and their scores.",
        "```\n" + "\n".join(formula["steps"]) + "\n```",
        "## Use",
        _LOADING.replace("INPUTS", str(architecture["inputs"])),
    ]
    return "\n\n".join(parts) + "\n"


def _data(card: ModelCard) -> list[str]:
    evidence = card.evidence
    counts = (
        f"Trained on {evidence.num_pairs:,} pairs of {evidence.num_series:,} series "
        f"({evidence.num_photos:,} photos)."
        if evidence.num_pairs
        else "How many pairs trained it is unknown; `photos.json` names the photos."
    )
    whole = "All pairs that could be used" if card.fold is None else f"Those of fold {card.fold}"
    lines = [counts, f"Training pairs: {whole[0].lower()}{whole[1:]}."]
    if evidence.split:
        lines.append(f"Split: {_text(evidence.split)}.")
    trained = [
        f"{seed} ({epoch})" if epoch else str(seed)
        for seed, epoch in zip(card.seeds, card.epochs, strict=False)
    ]
    if trained:
        lines.append(f"Seeds (and epochs): {', '.join(trained)}.")
    return lines


def _accuracy(evidence: Evidence, val_accuracy: float) -> list[str]:
    if math.isnan(evidence.accuracy):
        measured = ["Unknown: no held-out accuracy is noted here."]
        if not math.isnan(val_accuracy):
            measured.append(
                f"On the validation pairs, which chose the epoch, its accuracy is "
                f"{val_accuracy:.1%}: an optimistic figure."
            )
        return measured
    rows = [("this configuration", evidence.accuracy, evidence.low, evidence.high)]
    rows += [(name, value, math.nan, math.nan) for name, value in evidence.baselines.items()]
    if not math.isnan(evidence.ceiling):
        rows.append(("ceiling", evidence.ceiling, math.nan, math.nan))
    table = ["| scorer | accuracy | 95% interval |", "|---|---|---|"]
    for name, value, low, high in rows:
        known = not (math.isnan(low) or math.isnan(high))
        interval = f"{low:.1%} to {high:.1%}" if known else ""
        table.append(f"| {_text(name)} | {_share(value)} | {interval} |")
    source = _text(evidence.measured_on) or "held-out pairs"
    return ["\n".join(table), f"Measured on {source}."]


def _calibration(calibration: Calibration) -> list[str]:
    if math.isnan(calibration.slope):
        return ["Unknown: score differences are not known as probabilities."]
    slope = f"{calibration.slope:.4g}"
    if not (math.isnan(calibration.slope_low) or math.isnan(calibration.slope_high)):
        slope += f" (95% interval {calibration.slope_low:.4g} to {calibration.slope_high:.4g})"
    fitted = f", fitted to {_text(calibration.source)}" if calibration.source else ""
    if calibration.num_pairs:
        fitted += f" ({calibration.num_pairs:,} of {calibration.num_series:,} series)"
    lines = [
        f"The log-odds that photo a is preferred to b: {slope} times score(a) - score(b){fitted}."
    ]
    if not math.isnan(calibration.log_loss):
        verdict = "below" if calibration.log_loss < math.log(2) else "not below"
        lines.append(
            f"Log loss {calibration.log_loss:.3f} on pairs that fitted nothing; {verdict} chance, "
            f"{math.log(2):.3f}."
        )
    if math.isfinite(calibration.keep_gap):
        lines.append(
            f"Photos at most {calibration.keep_gap:.4g} below the highest score of their series: "
            f"at least {calibration.keep_share:.0%} of series keep their best; on average "
            f"{calibration.keep_size:.1f} photos stay ({calibration.keep_series:,} series)."
        )
    return lines


def _limits(card: ModelCard) -> list[str]:
    return [
        "Scores compare photos of one series, not photos of different series.",
        "The model was trained on these people's preferences for photos like these; on "
        "others it is untested. `evaluate` measures it on any pairs.",
        "It reads numbers of the blocks below, made in the same way, and no others.",
    ]


def _input(name: str, columns: Sequence[str], card: ModelCard) -> str:
    ends = columns[0] if len(columns) == 1 else f"{columns[0]} to {columns[-1]}"
    count = "1 column" if len(columns) == 1 else f"{len(columns):,} columns"
    recipe = card.recipes.get(name)
    return f"{_text(name)}: {count}, {_text(ends)}{_made(name, recipe)}."


def _made(name: str, recipe: Recipe | None) -> str:
    if recipe is None:
        return ""
    flags = recipe.flags(name)
    how = f" (jaxrank extract {_text(flags)})" if flags else ""
    return f"; made of photos by {_text(recipe.source)}{how}"


def _share(value: float) -> str:
    return "unknown" if math.isnan(value) else f"{value:.1%}"


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _text(text: str) -> str:
    """Escapes external text: one line without HTML, links or table cells."""
    plain = html.escape(" ".join(printable(text).split()), quote=False)
    return plain.replace("|", "\\|").replace("[", "\\[")
