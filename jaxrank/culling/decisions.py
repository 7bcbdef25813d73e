"""What becomes of each photo of a burst, and why, from its rank and its image-quality numbers."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

PICK, ALTERNATE, REJECT, UNDECIDED = DECISIONS = ("pick", "alternate", "reject", "undecided")

# The kind of a group whose best photo is looked for; nothing else is decided on.
BURST = "burst"
# Stars that a decision gets in sidecars.
STARS = {PICK: 5, ALTERNATE: 3, REJECT: -1}
# The label beside such stars distinguishes them from a person's. Whoever changes the stars in
# a photo program makes them a person's, whatever the label.
_LABEL = "jaxrank "

# Words for more and less of a number; all others are called by their names.
_WORDS = {
    "sharpness": ("sharper", "less sharp"),
    "exposure": ("better exposed", "worse exposed"),
    "colorfulness": ("more colourful", "less colourful"),
    "contrast": ("more contrast", "less contrast"),
}
# Differences below this share of a number's standard deviation inside bursts are not mentioned.
_LEAST_DEVIATIONS = 0.5
_MOST_REASONS = 2


def decide(ranked: pd.DataFrame, confidence: float, *, has_model: bool = True) -> pd.Series:
    """The decision on each photo.

    - A series whose first photo is its best with at least this probability has a pick; the others
      that are kept are alternates. In other series the kept photos are undecided.
    - Photos that are not kept are candidates for rejection, in every series.
    - Of a model without probabilities, which were worse than chance, all is undecided.
    - A baseline has neither probabilities nor a keep set: the first photo of each series is its
      pick, and all others are undecided.

    Args:
      ranked: photos of series of several photos, with `series_id`, `pick`, `p_best` and `keep` as
        `rank_photos` gives them.
      confidence: a share; infinite where no pick is sure.
      has_model: whether a model ranked them, or a baseline.
    """
    p_best = ranked["p_best"].astype(float)
    is_first = ranked["pick"].astype(bool)
    kept = ranked["keep"].astype("boolean").fillna(True).astype(bool)
    sure = p_best.where(is_first).groupby(ranked["series_id"]).transform("max") >= confidence
    if not has_model:
        return pd.Series(np.where(is_first, PICK, UNDECIDED), ranked.index, name="decision")
    decided = sure
    kept |= p_best.isna()
    chosen = np.select([is_first & decided, ~kept, decided], [PICK, REJECT, ALTERNATE], UNDECIDED)
    return pd.Series(chosen, index=ranked.index, name="decision")


def label_of(decision: str) -> str:
    """The label that is written beside the stars of a decision."""
    return _LABEL + decision


def is_ours(rating: int | None, label: str) -> bool:
    """Whether a rating is one that `cull` wrote and nobody has changed since."""
    decision = label.removeprefix(_LABEL)
    return label.startswith(_LABEL) and decision in STARS and STARS[decision] == rating


def reasons(ranked: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    """How a photo differs from the first of its series, and the first from the second, in words.

    Args:
      ranked: as in `decide`, the first photo of a series first, with the image-quality numbers.
      columns: the numbers; NaN where a photo has none.
    """
    values = ranked[list(columns)].astype(float)
    by_series = values.groupby(ranked["series_id"])
    firsts = by_series.transform("first")
    seconds = by_series.transform(lambda numbers: numbers.iloc[min(1, len(numbers) - 1)])
    is_first = ranked["pick"].to_numpy(bool)[:, None]
    difference = values - np.where(is_first, seconds, firsts)
    deviation = (values - by_series.transform("mean")).std()
    texts = []
    for row, is_pick in zip(difference.to_numpy(), is_first[:, 0], strict=True):
        sizes = np.nan_to_num(np.abs(row) / deviation.where(deviation > 0, np.inf).to_numpy())
        named = [
            f"{_words(columns[j], row[j])} by {abs(row[j]):.2g}"
            for j in np.argsort(-sizes, kind="stable")[:_MOST_REASONS]
            if sizes[j] >= _LEAST_DEVIATIONS
        ]
        than = "than the next" if is_pick else "than the first"
        texts.append(f"{', '.join(named)} {than}" if named else "")
    return pd.Series(texts, index=ranked.index, name="reasons", dtype=object)


def _words(column: str, difference: float) -> str:
    more, less = _WORDS.get(column, (f"more {column}", f"less {column}"))
    return more if difference > 0 else less
