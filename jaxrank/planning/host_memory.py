"""Host memory of a search; `Cohort.memory_bytes` is the memory of its device."""

from collections.abc import Sequence
from typing import NamedTuple

from jaxrank.data.dataset import Dataset
from jaxrank.errors import UserError
from jaxrank.planning.cohort import Cohort
from jaxrank.scaling import columns_at_once


class HostMemory(NamedTuple):
    """Predicted host memory, in bytes.

    Attributes:
      features: size of `Dataset.features_ND`.
      inputs: size of the further arrays that cohorts read, which are kept as long as a waiting
        cohort needs them. A CPU device reads them, and the features, in place.
      scaling: size of the columns that are fitted at a time.
      scores: size of the scores of all trials.
    """

    features: int
    inputs: int
    scaling: int
    scores: int

    @property
    def total(self) -> int:
        return sum(self)


def predict(dataset: Dataset, cohorts: Sequence[Cohort]) -> HostMemory:
    """Predicts the memory that a search needs besides its pairs and the Python process itself."""
    num_photos = len(dataset.photos)
    widest = max((cohort.input_dim for cohort in cohorts), default=0)
    made = {cohort.columns: cohort.made_bytes for cohort in cohorts}
    return HostMemory(
        features=dataset.features_ND.nbytes,
        inputs=sum(made.values()),
        # Columns in 64 bits, besides the stored columns that they are computed from.
        scaling=num_photos * columns_at_once(widest) * (8 + dataset.features_ND.itemsize),
        scores=4 * num_photos * sum(len(cohort.trials) for cohort in cohorts),
    )


def refuse_too_much(needed: HostMemory, dataset: Dataset, limit: float) -> None:
    """Raises UserError if a search needs more than `limit` bytes of host memory."""
    if needed.total <= limit:
        return
    num_photos, num_columns = dataset.features_ND.shape
    raise UserError(
        f"{num_photos:,} photos x {num_columns:,} columns need more host memory than allowed "
        f"({describe(needed)}; limit {limit / 2**20:,.0f} MiB): store the features as float16, "
        "leave blocks or photos out, or make --memory_fraction larger"
    )


def describe(needed: HostMemory) -> str:
    """Short description of the prediction."""
    total, features = (
        f"{size / 2**20:,.0f} MiB" if size >= 2**20 else "less than 1 MiB"
        for size in (needed.total, needed.features)
    )
    return f"host memory {total}, {features} of it features"
