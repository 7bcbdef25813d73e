"""Decision on each photo of a burst, and its reasons, from ranks and image-quality numbers."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

PICK, ALTERNATE, REJECT, UNDECIDED = DECISIONS = ("pick", "alternate", "reject", "undecided")

# Kind of the groups that are culled; photos of other groups get no decision.
BURST = "burst"
# Stars of each decision in sidecars.
STARS = {PICK: 5, ALTERNATE: 3, REJECT: -1}
# So many stars make a photo better than one without a rating.
LEAST_STARS = 3
# Prefix of the label that distinguishes such stars from a person's. Stars that somebody changed in
# a photo program are a person's, whatever the label.
_LABEL = "jaxrank "

# Words for a higher and a lower number; other numbers are described by their names.
_WORDS = {
    "sharpness": ("sharper", "less sharp"),
    "exposure": ("better exposed", "worse exposed"),
    "colorfulness": ("more colourful", "less colourful"),
    "contrast": ("more contrast", "less contrast"),
}
# Smallest first and second difference that is mentioned, as a share of a number's standard
# deviation inside bursts. The first is small: one badly blurred photo in each burst widens the
# deviation far beyond the difference that made the pick.
_LEAST_DEVIATIONS = (0.1, 0.5)
# A larger factor of sharpness is not printed: both photos of such a pair could be judged by eye.
_MAX_FACTOR = 100


def decide(ranked: pd.DataFrame, confidence: float, *, has_model: bool = True) -> pd.Series:
    """Decides on each photo.

    - The first photo of a series is its pick if its `p_best` is at least `confidence`. The other
      kept photos of such a series are alternates.
    - Kept photos of series without a pick are undecided.
    - Photos that are not kept are candidates for rejection, in every series.
    - A model without probabilities (they were worse than chance) leaves all photos undecided.
    - A baseline has neither probabilities nor a keep set: the first photo of each series is its
      pick, and all others are undecided.

    Args:
      ranked: photos of series of several photos, with `series_id`, `pick`, `p_best` and `keep` as
        `rank_photos` returns them.
      confidence: least probability of a pick; infinite for no picks.
      has_model: whether a model, not a baseline, ranked the photos.
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


def least_stars(ratings: Iterable[int | None]) -> int:
    """Fewest stars by which a person prefers a photo to one without stars.

    Fewer than LEAST_STARS may be a bad mark, and the other photo may be unseen, unless the person
    never gives LEAST_STARS.
    """
    return LEAST_STARS if max((one or 0 for one in ratings), default=0) >= LEAST_STARS else 1


def label_of(decision: str) -> str:
    """Label that is written beside the stars of a decision."""
    return _LABEL + decision


def is_ours(rating: int | None, label: str) -> bool:
    """Whether `cull` wrote a rating and nobody has changed it since."""
    decision = label.removeprefix(_LABEL)
    return label.startswith(_LABEL) and decision in STARS and STARS[decision] == rating


def reasons(ranked: pd.DataFrame, columns: Sequence[str], *, is_classic: bool = False) -> pd.Series:
    """Describes how photos differ from the first of their series, and the first from the second.

    Sharpness differs by a factor of 1 + the variance of the Laplacian, exposure by points of 100,
    and colorfulness by points of Hasler and Suesstrunk's scale. A photo has no reason where no
    number differs by the first of _LEAST_DEVIATIONS.

    Args:
      ranked: table as in `decide`, with the first photo of a series first, and with the
        image-quality numbers; NaN where a photo has none.
      columns: names of the image-quality numbers.
      is_classic: whether the numbers are those of `--iqa=classic`, which are all from 0 to 1.
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
            f"{_words(columns[j], row[j])} by {_amount(columns[j], abs(row[j]), is_classic)}"
            for j, least in zip(np.argsort(-sizes, kind="stable"), _LEAST_DEVIATIONS, strict=False)
            if sizes[j] >= least
        ]
        than = "than the next" if is_pick else "than the first"
        texts.append(f"{', '.join(named)} {than}" if named else "")
    return pd.Series(texts, index=ranked.index, name="reasons", dtype=object)


def _words(column: str, difference: float) -> str:
    more, less = _WORDS.get(column, (f"more {column}", f"less {column}"))
    return more if difference > 0 else less


def _amount(column: str, size: float, is_classic: bool) -> str:
    """A difference with its unit."""
    if is_classic or column == "exposure":
        return f"{_digits(100 * size, 2)} points of 100"
    if column == "sharpness":  # ln(1 + variance of the Laplacian)
        if size > math.log(_MAX_FACTOR):
            return f"a factor over {_MAX_FACTOR}"
        return f"a factor of {_digits(math.exp(size), 3)}"
    return f"{_digits(size, 2)} points"


def _digits(value: float, number: int) -> str:
    """Rounds to so many digits."""
    return f"{float(f'{value:.{number}g}'):,g}"
