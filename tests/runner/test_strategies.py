"""Strategies propose the same for the same history, and something new."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxrank.configs import default
from jaxrank.errors import UserError
from jaxrank.experiments.search_space import SearchSpace, parse_space
from jaxrank.runner import optuna_study
from jaxrank.runner.strategies import (
    SHARE_A_PROGRAM,
    STRATEGIES,
    Observation,
    choose_strategy,
    fingerprint,
    share_programs,
)

MIXED: dict[str, Any] = {
    "learning_rate": "1e-5..1e-1:log",
    "dropout": "0,0.3,0.5",
    "batch_size": "16..256:log",
    "optimizer": "adamw,sgd",
    "momentum": "0.5..0.99 if optimizer=sgd",
}
LISTS: dict[str, Any] = {"dropout": "0,0.1,0.2", "margin": "0.5,1,2"}


def space_of(entries: dict[str, Any]) -> SearchSpace:
    return parse_space(entries, default.get_config())


def accuracy(values: dict[str, Any]) -> float:
    """Highest where the learning rate is 1e-3."""
    return 0.7 - 0.05 * abs(float(np.log10(values["learning_rate"])) + 3)


def searched(name: str, entries: dict[str, Any], sizes: list[int], seed: int = 0) -> Any:
    """The history of a search whose accuracies are known."""
    space = space_of(entries)
    history: list[Observation] = []
    for size in sizes:
        proposed = STRATEGIES[name].propose(space, size, history, seed)
        known = "learning_rate" in entries
        history += [Observation(v, accuracy(v) if known else None) for v in proposed]
    return history


@pytest.mark.parametrize("name", ["random", "sobol", "tpe"])
def test_the_same_history_proposes_the_same(name: str) -> None:
    first, again = (searched(name, MIXED, [8, 8, 4]) for _ in range(2))
    assert first == again
    other = searched(name, MIXED, [8, 8, 4], seed=1)
    assert [seen.values for seen in other] != [seen.values for seen in first]


@pytest.mark.parametrize("name", ["random", "sobol", "tpe"])
def test_proposals_are_new_and_share_programs(name: str) -> None:
    history = searched(name, MIXED, [8, 8, 4])
    assert len(history) == 20
    assert len({fingerprint(seen.values) for seen in history}) == 20
    programs = {(seen.values["batch_size"], seen.values["optimizer"]) for seen in history}
    assert 2 <= len(programs) <= 2 * 20 // SHARE_A_PROGRAM
    for seen in history:
        assert ("momentum" in seen.values) == (seen.values["optimizer"] == "sgd")
    assert len({seen.values["learning_rate"] for seen in history}) == 20


@pytest.mark.parametrize("name", ["grid", "random", "sobol", "tpe"])
def test_a_small_space_is_tried_as_a_whole(name: str) -> None:
    history = searched(name, LISTS, [4, 4, 4])
    assert len(history) == 9
    assert len({fingerprint(seen.values) for seen in history}) == 9
    assert STRATEGIES[name].propose(space_of(LISTS), 4, history, 0) == []


@pytest.mark.parametrize("name", ["grid", "sobol"])
def test_rounds_change_nothing_where_results_do_not(name: str) -> None:
    entries = LISTS if name == "grid" else MIXED
    assert searched(name, entries, [3, 3, 2]) == searched(name, entries, [8])


def test_sobol_points_are_even() -> None:
    """Of 64 points each eighth of a range has eight."""
    shares = searched("sobol", {"dropout": "0..0.8", "margin": "0..8"}, [64])
    for key, width in (("dropout", 0.1), ("margin", 1)):
        eighths = [min(int(seen.values[key] / width), 7) for seen in shares]
        assert [eighths.count(place) for place in range(8)] == [8] * 8


def test_tpe_goes_where_accuracies_are_high() -> None:
    entries = {"learning_rate": "1e-6..1:log", "margin": "0.5..2"}
    found, blind = (
        np.mean([s.accuracy for s in searched(name, entries, [16, 16, 16])[32:]])
        for name in ("tpe", "random")
    )
    assert found > blind + 0.02


def test_compiled_in_values_change_where_all_of_their_experiments_are_tried() -> None:
    assert len(searched("tpe", {"batch_size": "16,32,64,128", "dropout": "0,0.1"}, [8])) == 8


@pytest.mark.parametrize("entries", [{"margin": "1..200:200"}, {"max_epochs": "1..200"}])
def test_the_last_experiment_of_a_space_is_found(entries: dict[str, str]) -> None:
    """Optuna alone repeats what has been tried."""
    (key,) = entries
    space = space_of(entries)
    values = [{key: space.parameters[0].values.at((place + 0.5) / 200)} for place in range(200)]
    history = [Observation(one, None) for one in values[:-1]]
    assert STRATEGIES["tpe"].propose(space, 1, history, 0) == values[-1:]
    assert STRATEGIES["tpe"].propose(space, 1, [*history, Observation(values[-1], None)], 0) == []


def test_a_gaussian_process_proposes() -> None:
    pytest.importorskip("torch", reason="the sampler gp needs PyTorch")
    entries = {"learning_rate": "1e-6..1:log"}
    history = searched("gp", entries, [11])
    proposed = STRATEGIES["gp"].propose(space_of(entries), 1, history, 0)
    assert proposed == STRATEGIES["gp"].propose(space_of(entries), 1, history, 0)
    assert accuracy(proposed[0]) > 0.65
    # Rungs have dropped most experiments of a search: it learns from them too.
    dropped = [seen._replace(epoch=1) for seen in history]
    assert proposed == STRATEGIES["gp"].propose(space_of(entries), 1, dropped, 0)


def test_only_what_is_compiled_in_is_shared() -> None:
    space = space_of({"dropout": "0..0.5", "batch_size": "8..64"})
    points = np.random.default_rng(0).random((2 * SHARE_A_PROGRAM, 2))
    shared = share_programs(space, points)
    np.testing.assert_array_equal(shared[:, 0], points[:, 0])
    assert len(set(shared[:, 1])) == 2
    alone = space_of({"batch_size": "8..64"})
    np.testing.assert_array_equal(share_programs(alone, points[:, :1]), points[:, :1])


def test_the_default_strategy_follows_from_the_space() -> None:
    assert choose_strategy("", space_of(LISTS)) == "grid"
    assert choose_strategy("", space_of(MIXED)) == "sobol"
    assert choose_strategy("random", space_of(LISTS)) == "random"
    with pytest.raises(UserError, match="--strategy=radnom: unknown"):
        choose_strategy("radnom", space_of(LISTS))
    with pytest.raises(UserError, match=r"--space.learning_rate is a range; .*LOW..HIGH:5"):
        choose_strategy("grid", space_of(MIXED))


def test_optunas_journal_holds_the_search(tmp_path: Path) -> None:
    import optuna
    from optuna.storages.journal import JournalFileBackend

    history = searched("random", MIXED, [6])
    history[2] = history[2]._replace(accuracy=None)
    history[4] = history[4]._replace(epoch=3)  # a rung has dropped it
    path = tmp_path / "journal.log"
    for _ in range(2):  # written again, it is the same study and not twice as long
        optuna_study.write_journal(path, space_of(MIXED), history)
    backend = JournalFileBackend(str(path))
    study = optuna.load_study(
        study_name=optuna_study.STUDY_NAME, storage=optuna.storages.JournalStorage(backend)
    )
    assert [trial.params for trial in study.trials] == [seen.values for seen in history]
    assert [trial.value for trial in study.trials] == [seen.accuracy for seen in history]
    assert study.trials[2].state == optuna.trial.TrialState.FAIL
    assert study.trials[4].state == optuna.trial.TrialState.PRUNED
    assert study.trials[4].intermediate_values == {3: history[4].accuracy}
    completed = [seen for seen in history if seen.accuracy and not seen.epoch]
    assert study.best_value == max(seen.accuracy for seen in completed)
    assert [path.name for path in tmp_path.iterdir()] == ["journal.log"]
