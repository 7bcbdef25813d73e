"""Too few series: the error names a number of folds that works, or what is lacking."""

from typing import Any

import pytest
from small_data import make_data

from jaxrank.data.preferences import Preferences
from jaxrank.errors import UserError
from jaxrank.runner.prepare import Prepared, prepare


def prepared(num_series: int, undirected: int = 0, **options: Any) -> Prepared:
    """So many series, in the first ones of which every preference is 0.5."""
    pairs, store = make_data(num_series)
    series = pairs.table["series_id"].astype(int)
    preference = pairs.table["preference"].where(series >= undirected, 0.5)
    table = pairs.table.assign(preference=preference)
    return prepare(Preferences(table), store, experiments=["iqa_only"], **options)


@pytest.mark.parametrize(
    ("num_series", "undirected", "options", "named"),
    [
        (3, 0, {}, 3),
        (9, 0, {}, 9),
        (9, 1, {}, 5),
        (10, 2, {}, 5),  # enough series, too few of them with a direction
        (12, 0, {"folds": 13}, 10),
        (6, 1, {"folds": 6}, 5),
        (5, 3, {"split": "random"}, 4),
        (9, 1, {"split": "pretrain"}, 5),
    ],
)
def test_the_largest_number_of_folds_that_works_is_named(
    num_series: int, undirected: int, options: dict[str, Any], named: int
) -> None:
    with pytest.raises(UserError) as caught:
        prepared(num_series, undirected, **options)
    assert str(caught.value).endswith(f"; --folds={named} works (cross-validation)")
    assert prepared(num_series, undirected, **options | {"folds": named})
    for more in range(named + 1, 11):
        with pytest.raises(UserError):
            prepared(num_series, undirected, **options | {"folds": more})


@pytest.mark.parametrize(
    ("num_series", "undirected", "message"),
    [
        (2, 0, "only 2 series: an 80/10/10 split needs 10; no number of folds works either: at "
         "least 3 series with features and a preference other than 0.5 are needed (now 2)"),
        (12, 10, "at least 3 series with features and a preference other than 0.5 are needed "
         "(now 2)"),
    ],
)  # fmt: skip
def test_where_no_number_works_it_says_what_is_needed(
    num_series: int, undirected: int, message: str
) -> None:
    with pytest.raises(UserError) as caught:
        prepared(num_series, undirected)
    assert str(caught.value).endswith(message)
