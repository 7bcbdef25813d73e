"""What a search takes of the host's memory; what its device holds is `Cohort.memory_bytes`."""

from collections.abc import Sequence
from typing import NamedTuple

from jaxrank.data.dataset import Dataset
from jaxrank.errors import UserError
from jaxrank.planning.cohort import Cohort
from jaxrank.scaling import columns_at_once


class HostMemory(NamedTuple):
    """Predicted bytes.

    Attributes:
      features: of `Dataset.features_ND`.
      inputs: what cohorts read. A CPU device reads it where it is, as long as some cohort that
        waits needs it; for an accelerator the largest is made here, and copied.
      scaling: the columns that are fitted at a time.
      scores: of all trials.
    """

    features: int
    inputs: int
    scaling: int
    scores: int

    @property
    def total(self) -> int:
        return sum(self)


def predict(dataset: Dataset, cohorts: Sequence[Cohort], *, on_cpu: bool) -> HostMemory:
    """The memory that a search needs beside its pairs and what every process has."""
    num_photos = len(dataset.photos)
    inputs: dict[tuple, int] = {}
    for cohort in cohorts:
        key = cohort.program_key
        inputs[key.blocks, key.l2_blocks, key.input_scaling, key.init_from] = cohort.data_bytes
    each = list(inputs.values()) or [0]
    widest = max((cohort.input_dim for cohort in cohorts), default=0)
    return HostMemory(
        features=dataset.features_ND.nbytes,
        inputs=sum(each) if on_cpu else max(each),
        # In 64 bits, beside what they are made of.
        scaling=num_photos * columns_at_once(widest) * (8 + dataset.features_ND.itemsize),
        scores=4 * num_photos * sum(len(cohort.trials) for cohort in cohorts),
    )


def refuse_too_much(needed: HostMemory, dataset: Dataset, limit: float) -> None:
    """Raises UserError where a search needs more than so many bytes of the host's memory."""
    if needed.total <= limit:
        return
    num_photos, num_columns = dataset.features_ND.shape
    raise UserError(
        f"{num_photos:,} photos x {num_columns:,} columns need more of the host's memory than may "
        f"be used ({describe(needed)}; limit {limit / 2**20:,.0f} MiB): store "
        "the features as float16, leave blocks or photos out, or make --memory_fraction larger"
    )


def describe(needed: HostMemory) -> str:
    """The prediction in a few words."""
    total, features = (f"{size / 2**20:,.0f} MiB" for size in (needed.total, needed.features))
    return f"host memory {total}, {features} of it features"
