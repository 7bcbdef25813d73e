"""Cost model of training: FLOPs, bytes moved, steps, compilations, and seconds on a device.

A roofline in which nothing overlaps (after Williams et al. 2009): an epoch takes as long as its
matrix products, its memory traffic and the overhead of its steps, one after the other.
"""

import dataclasses
import itertools
from typing import NamedTuple

from jaxrank import devices

# Passes over the parameters in a step, as XLA fuses them: the gradient is written. Each moment
# reads the gradient and itself and is written. The weights read themselves and the moments, and
# are written.
_PASSES = {"adamw": 1 + 3 + 3 + 4, "sgd": 1 + 3 + 3}
# Passes over a batch's inputs (gathered, written, read forwards and backwards) and over its hidden
# units (product, bits, activation and dropout, forwards and backwards).
_INPUT_PASSES, _HIDDEN_PASSES = 4, 12
# A linear scorer multiplies by a vector, which runs at the rate of memory: so many more passes over
# the inputs, measured with 1,540 of them on a core of a CPU.
_VECTOR_PASSES = 10


class Work(NamedTuple):
    """Machine-independent cost: FLOPs, bytes moved, steps."""

    flops: float  # of matrix products; a multiplication and an addition count as two
    bytes: float
    steps: float


@dataclasses.dataclass(frozen=True)
class DeviceProfile:
    """Rates of one device, and the source of these figures.

    A plan depends on the profile, so it is a part of a search's identity and is never measured in
    passing. It is built in, or read from the file of the command `profile`.
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
    """The profile of one device of this kind, for a plan without a measured profile.

    The CPU's figures are for one core: half the rates of two cores of an AMD EPYC. They are rough,
    and never multiplied by the number of cores, so that a plan is the same on any number. The
    accelerators' figures are guesses that no run has confirmed.

    On a CPU trials run one after the other: the matrix products of a single trial keep it busy,
    and XLA's plain products are faster than its batched ones (docs/benchmarks.md).

    Args:
      platform: platform of the devices that train; by default that of this process.
    """
    if (platform or devices.platform()) == "cpu":
        return DeviceProfile("built in, for a core of a CPU", 83e9, 64e9, 23e-6, 2.2, False)
    return DeviceProfile("built in, a guess", 30e12, 2e12, 150e-6, 10.0, True)


def num_weights(input_dim: int, hidden_dims: tuple[int, ...]) -> int:
    """Number of entries in the weight matrices of a `models.Scorer`."""
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
    """Cost of an epoch of a cohort: S steps of B pairs for each trial, then validation.

    Both photos of a pair go through the model, forwards once and backwards twice. The gradient of
    the inputs is not computed.
    """
    weights = num_weights(input_dim, hidden_dims)
    first = input_dim * (*hidden_dims, 1)[0]
    photos = 2 * num_batches * batch_size
    flops = photos * 2 * (3 * weights - first) + 2 * num_val_pairs * 2 * weights
    passes = _PASSES[optimizer] * weights * num_batches
    input_passes = _INPUT_PASSES if hidden_dims else _INPUT_PASSES + _VECTOR_PASSES
    passes += photos * (input_passes * input_dim + _HIDDEN_PASSES * sum(hidden_dims))
    steps = num_batches if side_by_side else num_trials * num_batches
    return Work(num_trials * flops, num_trials * 4 * passes, steps)


def state_bytes(input_dim: int, hidden_dims: tuple[int, ...], optimizer: str) -> int:
    """Memory of a trial's state: weights, weights of the best epoch, the optimiser's moments."""
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
    """Working memory of a trial, besides its state: of a step or a validation chunk.

    A step needs the gradient, `num_inputs` arrays the size of the inputs (several for the random
    bits of noise), and the hidden layers, forwards and backwards. A chunk of validation pairs
    needs `num_val_inputs` such arrays and the hidden layers. The larger of both counts.
    """
    hidden = sum(hidden_dims)
    step = 2 * batch_size * (num_inputs * input_dim + 4 * hidden)
    step += num_weights(input_dim, hidden_dims)
    return 4 * max(step, 2 * val_width * (num_val_inputs * input_dim + hidden))
