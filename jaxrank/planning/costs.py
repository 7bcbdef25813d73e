"""What training costs: floating-point operations, bytes moved, steps, compilations; and, at the
rates of a machine, seconds.

A roofline in which nothing overlaps (after Williams et al. 2009): an epoch takes as long as its
matrix products, its memory traffic and the overhead of its steps, one after the other.
"""

import dataclasses
import itertools
from typing import NamedTuple

from jaxrank import devices

# Passes over the parameters in a step, as XLA fuses them: the gradient is written; each moment
# reads gradient and itself and is written; the weights read themselves and the moments.
_PASSES = {"adamw": 1 + 3 + 3 + 4, "sgd": 1 + 3 + 3}
# Passes over a batch's inputs (gathered, written, read forwards and backwards) and over its hidden
# units (product, bits, activation and dropout, forwards and backwards).
_INPUT_PASSES, _HIDDEN_PASSES = 4, 12


class Work(NamedTuple):
    """What has to be done, whatever does it."""

    flops: float  # of matrix products; a multiplication and an addition are two
    bytes: float
    steps: float


@dataclasses.dataclass(frozen=True)
class DeviceProfile:
    """What one device does, and where these numbers are from.

    A plan depends on them, so they are a part of a search's identity and are never measured in
    passing: they are built in, or read from the file of the command `profile`.
    """

    source: str
    flops_per_second: float
    bytes_per_second: float
    step_seconds: float
    compile_seconds: float  # of one cohort's programs, nothing cached
    side_by_side: bool  # whether a cohort's trials run in one vmap, or one after the other

    def seconds(self, work: Work) -> float:
        return (
            work.flops / self.flops_per_second
            + work.bytes / self.bytes_per_second
            + work.steps * self.step_seconds
        )


def built_in_profile(platform: str | None = None) -> DeviceProfile:
    """The profile of one device of this kind, for a plan without a measured one.

    Those of a CPU are of one core, half of what two cores of an AMD EPYC do: rough, and never
    multiplied by the cores of a machine, so that a plan is the same on any number of them. Those of
    accelerators are guesses that no run has confirmed. On a CPU trials run one after the other:
    the matrix products of a single trial keep it busy, and XLA's plain products are faster than
    its batched ones (docs/benchmarks.md).

    Args:
      platform: of the devices that train; by default those of this process.
    """
    if (platform or devices.platform()) == "cpu":
        return DeviceProfile("built in, for a core of a CPU", 83e9, 64e9, 23e-6, 2.2, False)
    return DeviceProfile("built in, a guess", 30e12, 2e12, 150e-6, 10.0, True)


def num_weights(input_dim: int, hidden_dims: tuple[int, ...]) -> int:
    """Numbers in the weight matrices of a `models.Scorer`."""
    widths = (input_dim, *hidden_dims, 1)
    return sum(rows * columns for rows, columns in itertools.pairwise(widths))


def epoch_work(
    input_dim: int,
    hidden_dims: tuple[int, ...],
    optimizer: str,
    num_trials: int,
    num_batches: int,
    batch_size: int,
    num_val_pairs: int,
    side_by_side: bool,
) -> Work:
    """An epoch of a cohort: S steps of B pairs for each trial, then validation.

    Both photos of a pair go through the model, forwards once and backwards twice, but for the
    gradient of the inputs, which nobody needs.
    """
    weights = num_weights(input_dim, hidden_dims)
    first = input_dim * (*hidden_dims, 1)[0]
    photos = 2 * num_batches * batch_size
    flops = photos * 2 * (3 * weights - first) + 2 * num_val_pairs * 2 * weights
    passes = _PASSES[optimizer] * weights * num_batches
    passes += photos * (_INPUT_PASSES * input_dim + _HIDDEN_PASSES * sum(hidden_dims))
    steps = num_batches if side_by_side else num_trials * num_batches
    return Work(num_trials * flops, num_trials * 4 * passes, steps)


def state_bytes(input_dim: int, hidden_dims: tuple[int, ...], optimizer: str) -> int:
    """Memory of a trial's state: its weights, the best copy of them, the optimiser's moments."""
    copies = {"adamw": 4, "sgd": 3}[optimizer]
    return 4 * copies * num_weights(input_dim, hidden_dims)


def working_bytes(
    input_dim: int,
    hidden_dims: tuple[int, ...],
    batch_size: int,
    val_width: int,
    num_inputs: int,
    num_val_inputs: int,
) -> int:
    """Memory of what a trial has beside its state: in a step the gradient, the inputs (as often as
    `num_inputs`, for the random bits of noise) and, forwards and backwards, the hidden layers; in a
    chunk of validation pairs the inputs (as often as `num_val_inputs`) and hidden layers."""
    hidden = sum(hidden_dims)
    step = 2 * batch_size * (num_inputs * input_dim + 4 * hidden)
    step += num_weights(input_dim, hidden_dims)
    return 4 * max(step, 2 * val_width * (num_val_inputs * input_dim + hidden))
