"""Blocks of features: their types and checks.

The module `feature_store` stores blocks as files.
"""

import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import pandas as pd

from jaxrank.data.store_columns import Digests, LazyRows, Names
from jaxrank.errors import UserError
from jaxrank.io import tables

_KNOWN_ORDER = ("clip", "cnn", "iqa")
_BLOCK_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_OPTION = re.compile(r"[a-z][a-z0-9_]{0,31}")
# Largest RMS rounding error of a stored column, as a share of its standard deviation.
_MOST_ROUNDING = 0.07
_ROWS_AT_ONCE = 1 << 14

# Number types of a store.
Dtype: TypeAlias = Literal["float16", "float32"]


class Extraction(NamedTuple):
    """How a block was extracted from photos.

    Rows of equal recipe and file content are equal up to rounding: a network's last bits depend on
    the other photos of the batch.

    Attributes:
      recipe: settings that determine the block's rows.
      photos_sha256: SHA-256 of each photo's file, in the order of the block's photos.
      options: flags of `extract` that give the recipe, by name; empty in stores that were written
        before options existed.
    """

    recipe: Mapping[str, Any]
    photos_sha256: Sequence[str]
    options: Mapping[str, str] = {}

    @property
    def key(self) -> str:
        """SHA-256 of the recipe."""
        return _recipe_key(self.recipe)


class Recipe(NamedTuple):
    """How a block was extracted, independent of its photos.

    Attributes:
      source: short description of the block's origin.
      recipe, options: see `Extraction`.
    """

    source: str
    recipe: Mapping[str, Any]
    options: Mapping[str, str] = {}

    @property
    def key(self) -> str:
        """SHA-256 of the recipe."""
        return _recipe_key(self.recipe)

    def flags(self, block: str) -> str:
        """The flags of `extract` that produce this block, quoted for a shell; empty if unknown."""
        if not self.options:
            return ""
        words = [f"--{name}={shlex.quote(value)}" for name, value in self.options.items()]
        return " ".join([f"--blocks={block}", *words])


def _recipe_key(recipe: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()


class Block(NamedTuple):
    """One kind of feature: `values[i, j]` is column `columns[j]` of photo `photos[i]`.

    Attributes:
      photos: unique names of the N photos.
      columns: unique names of the D columns.
      values: float16 or float32 [N, D], finite.
      source: short description of the block's origin.
      sha256: SHA-256 of the block's content, if the block is from a store.
      caveat: warning for readers of any result, or empty.
      extraction: how the block was extracted from photos; None for other blocks.
    """

    photos: Sequence[str]
    columns: Sequence[str]
    values: np.ndarray
    source: str = ""
    sha256: str = ""
    caveat: str = ""
    extraction: Extraction | None = None


def recipe_of(block: Block) -> Recipe | None:
    """The block's recipe; None if the block was not extracted from photos."""
    made = block.extraction
    return None if made is None else Recipe(block.source, made.recipe, made.options)


# The blocks of a store by name, in the order in which a photo's vector concatenates them.
Features = Mapping[str, Block]


def refuse_mixed(features: Features) -> None:
    """Raises UserError if blocks were extracted from different files of the same photo name.

    The vector of that name would combine features of two photos.
    """
    distinct: dict[object, str] = {}
    for name, block in features.items():
        if block.extraction is not None:
            distinct.setdefault(photos_identity(block), name)
    if len(distinct) < 2:
        return
    content: dict[str, str] = {}
    first: dict[str, str] = {}
    for name in distinct.values():
        block = features[name]
        assert block.extraction is not None
        for photo, sha256 in zip(block.photos, block.extraction.photos_sha256, strict=True):
            if content.setdefault(photo, sha256) != sha256:
                raise UserError(
                    f"the blocks '{first[photo]}' and '{name}' were extracted from different files "
                    f"named '{photo}': extract both again, of the photos as they are now"
                )
            first.setdefault(photo, name)


def photos_identity(block: Block) -> object:
    """A key that is equal only for blocks of the same photos with the same file contents.

    For blocks of a store, the key is the hashes of the store's files.
    """
    assert block.extraction is not None
    photos, contents = block.photos, block.extraction.photos_sha256
    if isinstance(photos, Names) and isinstance(contents, Digests):
        return photos.key, contents.key
    return tuple(photos), tuple(contents)


def block_order(names: Sequence[str]) -> list[str]:
    """Sorts block names: clip, cnn, iqa, then others by name."""
    known = [name for name in _KNOWN_ORDER if name in names]
    return known + sorted(set(names) - set(known))


def check_block_name(where: str, name: object) -> None:
    """Raises UserError if `name` is not a valid block name."""
    if not is_block_name(name):
        shown = "" if f"{name}" in where else f" '{name}'"
        raise UserError(
            f"{where}{shown}: a block's name is lower-case letters, digits and _, at most 32, "
            "and not 'all'; the usual ones are clip, cnn and iqa"
        )


def check_block(where: str, block: Block, dtype: Dtype | None = None) -> Block:
    """Checks a block and converts its values to `dtype`; by default float32, float16 stays float16.

    Raises:
      UserError: the block is invalid, or rounding to `dtype` would lose a column.
    """
    photos, columns = list(block.photos), list(block.columns)
    for names, what in ((photos, "photo"), (columns, "column")):
        if not names:
            raise UserError(f"{where}: there is no {what}")
        if not all(isinstance(name, str) for name in names):
            raise UserError(f"{where}: the {what} names must be text")
        if not tables.is_text("".join(names)):  # one check of all names is fast
            no_text = next(name for name in names if not tables.is_text(name))
            raise UserError(f"{where}: {what} {no_text[:80]!a} is not text")
        twice = pd.Index(names).duplicated()
        if twice.any():
            raise UserError(f"{where}: {what} '{names[int(np.argmax(twice))]}' appears twice")
    raw = block.values if isinstance(block.values, LazyRows) else np.asarray(block.values)
    if raw.dtype.kind not in "fiub":
        raise UserError(f"{where}: the values are of type {raw.dtype}, not numbers")
    if raw.shape != (len(photos), len(columns)):
        raise UserError(
            f"{where}: the values have shape {list(raw.shape)}, but there are {len(photos)} "
            f"photos and {len(columns)} columns"
        )
    is_half = raw.dtype.kind == "f" and raw.dtype.itemsize == 2
    stored = np.dtype(dtype or ("float16" if is_half else "float32"))
    if raw.dtype == stored:
        values = block.values  # not copied: a memory-mapped array stays mapped
    else:
        with np.errstate(over="ignore"):
            values = raw.astype(stored)
    bits = 8 * stored.itemsize
    bad = _first_not_finite(values)
    if bad is not None:
        row, column = bad
        raise UserError(
            f"{where}, photo '{photos[row]}', column '{columns[column]}': {raw[row, column]} is "
            f"not a finite {bits}-bit number"
        )
    if raw.dtype != stored:
        _check_rounding(where, columns, raw, values)
    return block._replace(photos=photos, columns=columns, values=values)


def _first_not_finite(values: np.ndarray) -> tuple[int, int] | None:
    """Row and column of the first number that is not finite; None if all are finite."""
    for start in range(0, len(values), _ROWS_AT_ONCE):
        bad = np.argwhere(~np.isfinite(values[start : start + _ROWS_AT_ONCE]))
        if len(bad):
            return start + int(bad[0, 0]), int(bad[0, 1])
    return None


def _check_rounding(where: str, columns: list[str], raw: np.ndarray, stored: np.ndarray) -> None:
    """Raises UserError if rounding to the stored type would lose a column's variation."""
    for start in range(0, len(columns), 64):  # a 64-bit copy of a whole block may be too large
        wide = raw[:, start : start + 64].astype(np.float64)
        error = np.sqrt(np.mean((stored[:, start : start + 64] - wide) ** 2, axis=0))
        rounded = error > _MOST_ROUNDING * wide.std(axis=0)
        # A column that never varies loses nothing.
        lost = np.flatnonzero(rounded & (wide.min(axis=0) < wide.max(axis=0)))
        if len(lost):
            raise UserError(
                f"{where}, column '{columns[start + lost[0]]}': its values differ by less than "
                f"{8 * stored.itemsize}-bit numbers can represent; subtract a constant, or scale "
                "it"
            )


def are_options(value: object) -> bool:
    """Whether `value` is valid as `Extraction.options`."""
    return isinstance(value, dict) and all(
        _OPTION.fullmatch(name) and isinstance(text, str) and tables.is_text(text)
        for name, text in value.items()
    )


def is_block_name(name: object) -> bool:
    """Whether `name` is a valid block name."""
    return isinstance(name, str) and _BLOCK_NAME.fullmatch(name) is not None and name != "all"


def is_text_list(value: object) -> bool:
    """Whether `value` is a non-empty list of text."""
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        return False
    # Surrogates can't be encoded as UTF-8.
    return not any("\ud800" <= letter <= "\udfff" for letter in "".join(value))
