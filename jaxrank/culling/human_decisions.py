"""What people decided: by stars and flags on the photos, and in a contact sheet.

A contact sheet comes after stars and flags, and both come before the program's decisions.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from jaxrank.culling.changes import CHANGEABLE
from jaxrank.culling.decisions import ALTERNATE, BURST, PICK, REJECT
from jaxrank.culling.xmp import Marks


def with_marks(table: pd.DataFrame, marks: Mapping[str, Marks]) -> pd.DataFrame:
    """The table with the decisions that a person's stars and flags make, and `rating` and `marked`.

    Of the photos of a burst those with the highest mark are picks, a flag above all stars; others
    with stars are alternates; those with the rating -1 or a reject flag are rejected. Where a
    person has a pick, the program's becomes an alternate. All other photos keep their decisions. A
    photo with both stars and a reject flag is liked: which came later is not known, and rejecting
    it would do more harm.

    Args:
      table: with `path`, `series`, `kind` and `decision`, a row a photo.
      marks: a person's, by path.
    """
    own = [marks.get(path) for path in table["path"]]
    liked = pd.Series([_liking(found) for found in own], table.index)
    rejected = pd.Series([_is_rejected(found) for found in own], table.index) & (liked == 0)
    in_burst = table["kind"] == BURST
    best = liked.where(in_burst, 0).groupby(table["series"]).transform("max")
    decision = table["decision"].mask(in_burst & (best > 0) & table["decision"].eq(PICK), ALTERNATE)
    decision = decision.mask(in_burst & (liked > 0), ALTERNATE)
    decision = decision.mask(in_burst & (liked > 0) & (liked == best), PICK)
    ratings = [found.rating if found is not None and found.rating else pd.NA for found in own]
    return table.assign(
        decision=decision.mask(in_burst & rejected, REJECT),
        rating=pd.array(ratings, "Int64"),
        marked=(liked > 0) | rejected,
    )


def _liking(marks: Marks | None) -> int:
    """0 for a photo that nobody likes; stars, and more for a flag."""
    if marks is None:
        return 0
    return max(marks.rating or 0, 0) + (10 if marks.pick == "pick" else 0)


def _is_rejected(marks: Marks | None) -> bool:
    return marks is not None and (marks.rating == -1 or marks.pick == "reject")


def with_changes(table: pd.DataFrame, said: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The table with what a person decided in a contact sheet, marked by `changed`.

    Args:
      table: with `path`, `decision` and `rating`.
      said: by path, see `changes.read_changes`.
    """
    table = table.assign(changed=table["path"].isin(list(said)))
    for column in CHANGEABLE:
        own = table["path"].map({path: row.get(column) for path, row in said.items()})
        table[column] = own.where(own.notna(), table[column])
    return table.astype({"rating": "Int64"})
