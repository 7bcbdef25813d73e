"""Rungs: epochs at which a search compares its experiments and drops some of them."""

from collections.abc import Iterable, Sequence

from jaxrank.configs import REFERENCES
from jaxrank.errors import UserError
from jaxrank.experiments.hyperparameters import Experiment


def without_references(experiments: Iterable[Experiment]) -> list[Experiment]:
    """The experiments without the references, which rungs do not compare."""
    return [e for e in experiments if e.name not in REFERENCES]


def read_rungs(given: Sequence[int] | str) -> list[int]:
    """Parses the epochs of --rungs.

    Raises:
      UserError: the epochs are not increasing whole numbers from 1 up.
    """
    text = str(given) if isinstance(given, str | int) else ",".join(map(str, given))
    words = [word.strip() for word in text.split(",") if word.strip()]
    try:
        rungs = [int(word) for word in words]
    except ValueError:
        raise UserError(f"--rungs={text}: not whole numbers of epochs, such as 1,3,9") from None
    if any(one < 1 for one in rungs) or sorted(set(rungs)) != rungs:
        raise UserError(f"--rungs={text}: give increasing numbers of epochs, such as 1,3,9")
    return rungs


def check_rungs(rungs: Sequence[int], experiments: Iterable[Experiment]) -> None:
    """Raises UserError if no rung is below the last epoch of any experiment."""
    longest = max((e.max_epochs for e in without_references(experiments)), default=0)
    if rungs[0] >= longest:
        raise UserError(
            f"--rungs={','.join(map(str, rungs))}: none is below max_epochs={longest}, so none "
            "drops anything"
        )
