"""Groups trials into cohorts that one compiled program trains.

A plan is a pure function of the experiments, the data's shape and the profile of one device
(costs.py), which is built in or read from a file. It never depends on the time or on the number of
devices. The memory of a machine matters only if a cohort would not fit beside the columns that the
search reads.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from jaxrank import sampling
from jaxrank.data import splits
from jaxrank.data.dataset import Dataset, SplitDataset
from jaxrank.errors import UserError
from jaxrank.planning.cohort import (
    SCORING_CHUNK,
    Cohort,
    ProgramKey,
    program_key,
    resident_bytes,
)
from jaxrank.planning.costs import DeviceProfile, built_in_profile
from jaxrank.planning.trials import Trial
from jaxrank.scaling import normal_score_columns

# Length of a dispatch: long enough for its overhead not to matter, and short enough for a progress
# bar, a Ctrl-C, and a cohort that stops in the middle of it.
_DISPATCH_SECONDS = 0.1
_MOST_EPOCHS = 8
# Length of a cohort: a longer group is cut, so that several devices can train it. Much longer than
# a compilation, which each cohort may need, and short enough for many devices to end together.
_COHORT_SECONDS = 20.0
# Where trials run one after the other, a group's cohorts share one program, and a shorter group is
# cut, too: into this many cohorts, of at least so many seconds. Then cores share the group, and the
# results of one cohort are written while the next one trains.
_COHORTS_OF_GROUP, _LEAST_COHORT_SECONDS = 8, 0.5
# Lower bound of the pairs that a validation chunk may hold on an accelerator.
_LEAST_CHUNK = 64

# The only sampler whose batches are not of near-equal size.
SERIES_AWARE = "series_aware"


class Folds(NamedTuple):
    """Sizes of the folds, on which static shapes depend.

    All folds count, including those whose trials are in another cohort: a trial's batches must
    not depend on its neighbours.

    Attributes:
      train_series: series of the training pairs, for each fold.
      most_val: largest number of validation pairs in a fold.
    """

    train_series: list[np.ndarray]
    most_val: int


def measure_folds(data: SplitDataset) -> Folds:
    folds = range(data.num_folds)
    return Folds(
        [data.dataset.series_M[data.rows(f, splits.TRAIN)] for f in folds],
        max(len(data.rows(f, splits.VALIDATION)) for f in folds),
    )


def make_cohort(
    trials: Sequence[Trial],
    dataset: Dataset,
    folds: Folds,
    profile: DeviceProfile,
    hidden_dims: tuple[int, ...],
    epochs_per_dispatch: int | None = None,
    begins: int = 0,
    ends: int | None = None,
    num_slots: int | None = None,
) -> Cohort:
    """Makes the cohort of trials whose program keys differ only in hidden sizes.

    Args:
      trials: at least one trial.
      dataset, folds: pairs of the trials.
      profile: device profile that the costs are predicted with.
      hidden_dims: hidden sizes of the cohort, at least as wide as each trial's.
      epochs_per_dispatch: epochs of a dispatch; by default about _DISPATCH_SECONDS long.
      begins, ends: see `Cohort`.
      num_slots: see `Cohort`; by default the number of trials.
    """
    common = program_key(trials[0].experiment)
    num_batches = max(
        sampling.min_batches(series, common.sampler, common.batch_size)
        for series in folds.train_series
    )
    if common.sampler == SERIES_AWARE:  # as wide as its full batches
        width = min(common.batch_size, max(len(np.unique(s)) for s in folds.train_series))
    else:  # near-equal batches
        width = max(-(-len(series) // num_batches) for series in folds.train_series)
    most_val = max(folds.most_val, 1)  # there are none if all pairs train
    # Side by side, all trials validate at once: larger chunks than a batch would need most memory.
    most_at_once = max(width, _LEAST_CHUNK) if profile.side_by_side else SCORING_CHUNK
    val_chunks = -(-most_val // min(most_at_once, SCORING_CHUNK))
    val_width = -(-most_val // val_chunks)
    input_dim = len(dataset.column_indices(common.blocks))
    columns_J = normal_score_columns(dataset.block_columns, common.blocks, common.input_scaling)
    raw_bytes = 0
    if len(columns_J) < input_dim:
        itemsize = 4 if common.l2_blocks else dataset.features_ND.itemsize
        raw_bytes = len(dataset.photos) * input_dim * itemsize
    are_stored = dataset.are_stored(common.blocks, common.l2_blocks)
    score_columns = len(folds.train_series) * len(columns_J)  # each fold has its own
    other_bytes = 4 * len(dataset.photos) * score_columns + 24 * len(dataset.preference_M)
    cohort = Cohort(
        trials=tuple(trials),
        program_key=common,
        num_batches=num_batches,
        batch_size=width,
        val_shape=(val_chunks, val_width),
        skip_empty=common.sampler == SERIES_AWARE
        or min(map(len, folds.train_series)) < num_batches,
        input_dim=input_dim,
        epochs_per_dispatch=1,
        stored_bytes=raw_bytes if are_stored else 0,
        made_bytes=other_bytes + (0 if are_stored else raw_bytes),
        profile=profile,
        num_slots=len(trials) if num_slots is None else num_slots,
        column_runs=_runs(columns_J, input_dim),
        begins=begins,
        ends=ends,
    )
    return _shaped(cohort, hidden_dims, epochs_per_dispatch)


def _runs(columns_J: np.ndarray, num_columns: int) -> tuple[tuple[bool, int], ...]:
    """Runs of columns with and without normal scores; see `Cohort.column_runs`."""
    if not len(columns_J):
        return ()
    chosen_D = np.isin(np.arange(num_columns), columns_J).tolist()
    return tuple((has, len(list(run))) for has, run in itertools.groupby(chosen_D))


def _shaped(
    cohort: Cohort, hidden_dims: tuple[int, ...], epochs_per_dispatch: int | None = None
) -> Cohort:
    """The same cohort with other hidden sizes."""
    common = dataclasses.replace(cohort.program_key, mlp_hidden_dims=hidden_dims)
    shaped = cohort._replace(program_key=common)
    if epochs_per_dispatch is None:
        epochs_per_dispatch = _epochs_per_dispatch(shaped)
    return shaped._replace(epochs_per_dispatch=epochs_per_dispatch)


def _epochs_per_dispatch(cohort: Cohort) -> int:
    """Epochs of a dispatch of at most _DISPATCH_SECONDS; the last dispatch ends at the rung."""
    most = min(_MOST_EPOCHS, cohort.num_epochs, int(_DISPATCH_SECONDS / cohort.epoch_seconds))
    if cohort.ends is None:
        return max(1, most)
    length = cohort.ends - cohort.begins
    return max(epochs for epochs in range(1, max(1, most) + 1) if length % epochs == 0)


def make_cohorts(
    trials: Sequence[Trial],
    data: SplitDataset,
    memory_limit: int,
    profile: DeviceProfile | None = None,
    ends: int | None = None,
    known: Sequence[Cohort] = (),
    on_one_device: bool = False,
) -> list[Cohort]:
    """Groups trials by their static shapes into cohorts, the longest first.

    Narrow groups are padded into wider groups where that pays. Groups are cut into near-equal
    cohorts of at most about _COHORT_SECONDS.

    Args:
      trials: trials whose blocks are all in the dataset.
      data: aligned pairs.
      memory_limit: bytes that one cohort may take, beside the data that the other cohorts read;
        larger cohorts are cut smaller. On a CPU it does not count the dataset's features.
      profile: profile of one device; by default the built-in profile.
      ends: see `Cohort`.
      known: cohorts of the search so far, whose programs are shared where possible.
      on_one_device: whether the cohorts are trained one after the other, so that a short group
        need not be cut.

    Raises:
      UserError: one trial alone exceeds the limit.
    """
    profile = built_in_profile() if profile is None else profile
    folds = measure_folds(data)
    groups: dict[ProgramKey, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(program_key(trial.experiment), []).append(trial)
    wholes = [
        make_cohort(members, data.dataset, folds, profile, common.mlp_hidden_dims, ends=ends)
        for common, members in groups.items()
    ]
    resident = resident_bytes(wholes)
    cohorts = []
    for whole in _padded_together(wholes, trials, memory_limit - resident):
        alone = whole.with_trials(whole.trials[:1])
        needed = alone.shared_bytes + alone.trial_bytes
        if needed > memory_limit - resident:
            # A CPU holds the features beside `memory_limit`, and reads them in place.
            held = 0 if profile.side_by_side else data.dataset.features_ND.nbytes
            raise _too_large(whole, needed, resident + held, memory_limit + held)
        program = _known_program(whole, known)
        if program is None:
            cohorts += _cut(whole, memory_limit - resident, is_shared=not on_one_device)
        else:
            shared = _shared(whole, program)
            cohorts += _cut(shared, memory_limit - resident, program.num_slots)
    return _longest_first(cohorts)


def _too_large(whole: Cohort, needed: int, resident: int, memory_limit: int) -> UserError:
    """Error for a trial that does not fit beside the features."""
    allowed = f"{max(memory_limit, 0) / 2**30:,.1f} GiB may be used"
    if resident > needed:
        return UserError(
            f"the features that the experiments read need {resident / 2**30:,.1f} GiB, and one "
            f"trial {needed / 2**30:,.1f} GiB, but {allowed}; store the features as float16, leave "
            "blocks or photos out, or make --memory_fraction larger"
        )
    e = whole.trials[0].experiment
    return UserError(
        f"experiment '{e.name}': one trial needs {needed / 2**30:,.1f} GiB "
        f"(mlp_hidden_dims={e.hidden_dims_text}, batch_size={e.batch_size}) beside "
        f"{resident / 2**30:,.1f} GiB of features, but {allowed}; make mlp_hidden_dims or "
        "batch_size smaller, or --memory_fraction larger"
    )


def continued_cohorts(
    sources: Sequence[tuple[Cohort, Trial]], ends: int | None, memory_limit: int
) -> list[Cohort]:
    """Makes the cohorts in which trials continue that earlier cohorts have trained to a rung.

    The programs stay the same, so that a trial's state fits. Groups are cut as by `make_cohorts`.

    Args:
      sources: each trial with the cohort that trained it.
      ends, memory_limit: see `make_cohorts`.
    """
    groups: dict[Cohort, list[Trial]] = {}
    for source, trial in sources:
        program = source.without_trials()
        if program.profile.side_by_side:  # of any size: the numbers of trials change anyway
            program = program._replace(num_slots=0, epochs_per_dispatch=1)
        groups.setdefault(program, []).append(trial)
    read = {source.columns: source for source, _ in sources}
    room = memory_limit - resident_bytes(read.values())
    cohorts = []
    for program, trials in groups.items():
        assert program.ends is not None, "a trial that was trained to the end does not continue"
        whole = program.with_trials(trials)._replace(
            stored_bytes=read[program.columns].stored_bytes,
            made_bytes=read[program.columns].made_bytes,
            begins=program.ends,
            ends=ends,
        )
        cohorts += _cut(_shared(whole, program), room, program.num_slots)
    return _longest_first(cohorts)


def _shared(whole: Cohort, known: Cohort) -> Cohort:
    """A cohort with dispatches as long as those of a known one, so that they share a program.

    This saves a compilation. Side by side it would not, because the number of trials differs.
    """
    epochs = known.epochs_per_dispatch
    stage = 0 if whole.ends is None else whole.ends - whole.begins
    if whole.profile.side_by_side or stage % epochs:
        epochs = _epochs_per_dispatch(whole)
    return whole._replace(epochs_per_dispatch=epochs)


def _known_program(whole: Cohort, known: Iterable[Cohort]) -> Cohort | None:
    """A cohort whose program a new one can share.

    This is the one with the fewest slots of those with room for all trials, or else with the most
    slots. Programs that would need many more cohorts than one of its own are not shared.
    """
    stage = 0 if whole.ends is None else whole.ends - whole.begins

    def program(cohort: Cohort) -> Cohort:
        return cohort.without_trials(begins=0, ends=None, epochs_per_dispatch=0, num_slots=0)

    num_trials = len(whole.trials)
    most_cohorts = 2 * _num_cohorts(whole, num_trials, is_shared=True)
    same = [
        cohort
        for cohort in known
        if program(cohort) == program(whole)
        and stage % cohort.epochs_per_dispatch == 0
        and most_cohorts * cohort.num_slots >= num_trials
    ]
    with_room = [cohort for cohort in same if cohort.num_slots >= num_trials]
    if with_room:
        return min(with_room, key=lambda cohort: cohort.num_slots)
    return max(same, key=lambda cohort: cohort.num_slots, default=None)


def _cut(
    whole: Cohort, room: int, num_slots: int | None = None, is_shared: bool = False
) -> list[Cohort]:
    """Cuts a cohort into near-equal cohorts; see `_num_cohorts`.

    Args:
      whole: the cohort.
      room: bytes of memory that each cohort may take, the data not counted.
      num_slots: slots of a program to share, where trials run one after the other.
      is_shared: whether several cores may share even a short group.
    """
    most = max(1, (room - whole.shared_bytes) // whole.trial_bytes)
    if whole.profile.side_by_side or (num_slots is not None and num_slots > most):
        num_slots = None
    most = most if num_slots is None else num_slots
    parts = np.array_split(np.arange(len(whole.trials)), _num_cohorts(whole, most, is_shared))
    cohorts = [whole.with_trials([whole.trials[i] for i in part]) for part in parts]
    if whole.profile.side_by_side:
        return cohorts
    largest = len(parts[0])
    return [cohort._replace(num_slots=num_slots or largest) for cohort in cohorts]


def _longest_first(cohorts: Sequence[Cohort]) -> list[Cohort]:
    return sorted(cohorts, key=lambda cohort: -cohort.seconds)  # stable: ties keep their order


def _num_cohorts(whole: Cohort, most_trials: int, is_shared: bool = False) -> int:
    """Number of cohorts to make of a group: its seconds divided by those of a cohort, rounded.

    Side by side, up to twice as many are made if all then have one size, and so share a compiled
    program. More are made if the cohorts would not fit in memory otherwise.
    """
    num_trials = len(whole.trials)
    seconds = _COHORT_SECONDS
    if is_shared and not whole.profile.side_by_side:
        share = whole.training_seconds / _COHORTS_OF_GROUP
        seconds = min(seconds, max(share, _LEAST_COHORT_SECONDS))
    fewest = max(1, min(num_trials, round(whole.training_seconds / seconds)))
    if whole.profile.side_by_side:
        numbers = range(fewest, min(2 * fewest, num_trials + 1))
        fewest = next((n for n in numbers if num_trials % n == 0), fewest)
    return max(fewest, -(-num_trials // most_trials))


def _padded_together(wholes: Sequence[Cohort], trials: Sequence[Trial], room: int) -> list[Cohort]:
    """Merges cohorts that differ only in their hidden sizes, the narrower padded to the wider.

    A merge must pay: fewer compilations and steps save more than wider layers cost. Padding is
    exact: a unit whose weights are all zero outputs zero, gets no gradient and stays zero. One
    trial must fit into `room` bytes of memory, the data not counted.
    """
    place = {trial.key: i for i, trial in enumerate(trials)}
    families: dict[tuple[ProgramKey, int], list[Cohort]] = {}
    for cohort in wholes:
        dims = cohort.program_key.mlp_hidden_dims
        family = dataclasses.replace(cohort.program_key, mlp_hidden_dims=()), len(dims)
        families.setdefault(family, []).append(cohort)
    merged = []
    for members in families.values():
        # From wide to narrow, each with the narrowest so far: a wider one would cost more.
        members.sort(key=lambda cohort: cohort.trial_bytes, reverse=True)
        wide = members[0]
        for narrow in members[1:]:
            dims = tuple(
                map(max, wide.program_key.mlp_hidden_dims, narrow.program_key.mlp_hidden_dims)
            )
            both = sorted([*wide.trials, *narrow.trials], key=lambda trial: place[trial.key])
            together = _shaped(wide.with_trials(both), dims)
            pays = together.seconds < wide.seconds + narrow.seconds
            if pays and together.shared_bytes + together.trial_bytes <= room:
                wide = together
            else:
                merged.append(wide)
                wide = narrow
        merged.append(wide)
    return sorted(merged, key=lambda cohort: place[cohort.trials[0].key])
