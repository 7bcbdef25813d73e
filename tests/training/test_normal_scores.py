"""Blocks of few columns are read as normal scores, beside others that are standardised."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest
from small_data import cohorts_of, experiment, inputs_of, make_data

from jaxrank import train
from jaxrank.data import splits
from jaxrank.data.dataset import Dataset, SplitDataset, align
from jaxrank.planning.trials import Trial
from jaxrank.scaling import fit_scaling
from jaxrank.training import arrays
from jaxrank.training.state import InitialWeights


@pytest.fixture(scope="module")
def data() -> SplitDataset:
    """A wide block between two narrow ones, one of which comes last."""
    pairs, store = make_data()
    wide = np.random.default_rng(1).standard_normal((len(store["cnn"].photos), 33))
    columns = [f"w{i}" for i in range(33)]
    store["cnn"] = store["cnn"]._replace(columns=columns, values=wide.astype(np.float32))
    dataset = align(pairs, store)
    return SplitDataset(dataset=dataset, splits_FM=splits.split_pairs(dataset.table, folds=3))


def test_scores_are_the_models_of_the_scaled_inputs_of_its_fold(data: SplitDataset) -> None:
    dataset: Dataset = data.dataset
    e = experiment("a", max_epochs=1, learning_rate=0.05)
    (cohort,) = cohorts_of([Trial(e, 2, 0), Trial(e, 0, 0)], dataset, data.splits_FM)
    assert cohort.column_runs == ((True, 6), (False, 33), (True, 4))
    fitted = train.fit(cohort, data)
    raw = dataset.inputs(e.blocks)
    narrow = [*range(6), *range(39, 43)]
    for p, trial in enumerate(cohort.trials):
        photos = np.unique(dataset.pair_rows_M2[data.rows(trial.fold, splits.TRAIN)])
        scaling = fit_scaling(raw, photos, narrow)
        params = jax.tree.map(lambda leaf, p=p: leaf[p], fitted.best_params)
        expected: Any = train.make_program_spec(cohort).model.apply(params, scaling.apply(raw))
        np.testing.assert_allclose(fitted.scores_PN[p], expected, atol=1e-5)
        np.testing.assert_array_equal(fitted.scaling_P[p].knots_JK, scaling.knots_JK)
    assert not np.array_equal(fitted.scaling_P[0].knots_JK, fitted.scaling_P[1].knots_JK)


def test_standard_inputs_are_all_columns_as_they_are(data: SplitDataset) -> None:
    e = experiment("a", input_scaling="standard")
    (cohort,) = cohorts_of([Trial(e, 0, 0)], data.dataset, data.splits_FM)
    inputs = inputs_of(cohort, data.dataset, data.splits_FM)
    assert cohort.column_runs == ()
    np.testing.assert_array_equal(inputs.data.features_ND, data.dataset.inputs(e.blocks))
    assert inputs.scaling[0].knots_JK.size == 0


def test_training_that_begins_from_a_model_keeps_its_knots(data: SplitDataset) -> None:
    e = dataclasses.replace(experiment("a"), init_from="some model")
    (cohort,) = cohorts_of([Trial(e, 0, 0), Trial(e, 1, 0)], data.dataset, data.splits_FM)
    raw = data.dataset.inputs(e.blocks)
    scaling = fit_scaling(raw, np.arange(20), [*range(6), *range(39, 43)])
    inputs = arrays.make_inputs(cohort, data, [0, 1], InitialWeights({}, scaling))
    expected = scaling.normal_scores(raw)
    np.testing.assert_array_equal(inputs.data.normal_scores, np.concatenate([expected] * 2))
    assert inputs.scaling == {0: scaling, 1: scaling}
