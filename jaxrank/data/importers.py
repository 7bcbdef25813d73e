"""Reads blocks from files: CSV, parquet, .npz, .npy with a list of names, safetensors."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import safe_open

from jaxrank.data.feature_store import (
    Block,
    Dtype,
    block_order,
    check_block,
    check_block_name,
    map_npy,
)
from jaxrank.data.memory_blocks import (
    block_of_array,
    block_of_frame,
    refuse_other_shapes,
    refuse_series_ids,
)
from jaxrank.errors import UserError
from jaxrank.io import reading, tables

# The array of an .npz file that holds the photos' names.
NAMES = "names"
# Types of safetensors files that NumPy supports.
_TENSOR_TYPES = {"F64", "F32", "F16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"}


def read_block_csv(path: Path | str, *, dtype: Dtype | None = None) -> Block:
    """Reads a block from CSV: the photo names in the first column, a feature in each other one.

    Raises:
      UserError: a value is not a finite number, or a photo is repeated; the message names the
        photo.
    """
    table = tables.read_csv(path)
    if len(table.columns) < 2:
        raise UserError(
            f"{path}: one column only; the first is the photo's name, the others are the features"
        )
    columns = table.columns[1:]
    if "" in columns:
        raise UserError(f"{path}: column {columns.index('') + 2} has no name in the header")
    refuse_series_ids(str(path), columns)
    photos = table.distinct_photos(table.columns[0])
    values = table.numbers(columns, named_by=table.columns[0])
    return check_block(str(path), Block(photos, columns, values, Path(path).name), dtype)


def read_block_npy(
    path: Path | str,
    names: Path | str,
    *,
    block: str,
    columns: Sequence[str] = (),
    dtype: Dtype | None = None,
) -> Block:
    """Reads a block from a .npy file, which is memory-mapped and never unpickled.

    Args:
      path: the .npy file, numbers [photos, columns].
      names: a text file with one photo name per line, in the order of the rows.
      block: the block's name; its columns are BLOCK_0, BLOCK_1, ... unless `columns` names them.
      columns: names of the columns.
      dtype: type of the stored numbers; by default float32, and float16 stays float16.
    """
    values = map_npy(Path(path), "")
    refuse_other_shapes(str(path), values)
    photos = _read_names(names, path, len(values))
    return _named_block(path, values, photos, block, columns, dtype)


def read_block_parquet(path: Path | str, *, block: str, dtype: Dtype | None = None) -> Block:
    """Reads a block from a parquet file.

    The file has a column of photo names, and one column per feature or one column of lists; see
    docs/data_formats.md.

    Raises:
      UserError: a value is not a finite number, or a photo is repeated; the message names the
        column and the photo.
    """
    arrow = tables.read_arrow(path)
    try:
        frame = arrow.to_pandas()
    except Exception as error:  # the file's pandas metadata may be damaged
        raise UserError(f"{path}: can't be read ({tables.reason(error)})") from None
    return block_of_frame(str(path), frame, block=block, source=Path(path).name, dtype=dtype)


def read_blocks_npz(path: Path | str, *, dtype: Dtype | None = None) -> dict[str, Block]:
    """Reads blocks from an .npz file; nothing is unpickled.

    The file has the array `names`, text [photos], and for each block an array of numbers
    [photos, columns] under the block's name.

    Raises:
      UserError: the file has another form; the message names the array.
    """
    arrays = _npz_arrays(Path(path))
    names = arrays.pop(NAMES, None)
    if names is None or not arrays:
        has = ", ".join(f"'{name[:40]}'" for name in [*arrays, *([NAMES] * (names is not None))])
        raise UserError(
            f"{path}: the file has {has or 'no arrays'}; it needs '{NAMES}', the photos' names, "
            "and an array for each block"
        )
    if names.ndim != 1 or names.dtype.kind != "U":
        raise UserError(
            f"{path}: '{NAMES}' is {names.dtype} {list(names.shape)}, not text [photos]; save it "
            "as np.array(names, dtype=str)"
        )
    blocks = {}
    for name in block_order(list(arrays)):
        check_block_name(str(path), name)
        where = f"{path}, array '{name}'"
        blocks[name] = block_of_array(
            where, arrays[name], names.tolist(), block=name, source=Path(path).name, dtype=dtype
        )
    return blocks


def _npz_arrays(path: Path) -> dict[str, np.ndarray]:
    if not os.path.isfile(path):  # opening a pipe might wait forever
        raise UserError(f"{path}: can't be read (no such file)")
    try:
        with open(path, "rb") as file:
            found = np.load(file, allow_pickle=False)
            if not isinstance(found, np.lib.npyio.NpzFile):
                raise ValueError("not an archive")
            arrays = {name: found[name] for name in found.files}
    except Exception as error:  # damaged archives raise many exception types
        advice = ""
        if "allow_pickle" in str(error):
            advice = "; arrays of objects are not read: save names as np.array(names, dtype=str)"
        raise UserError(f"{path}: can't be read as .npz ({tables.reason(error)}){advice}") from None
    if not all(isinstance(array, np.ndarray) for array in arrays.values()):
        raise UserError(f"{path}: holds files that are not arrays")
    return arrays


def read_block_safetensors(
    path: Path | str,
    names: Path | str | None = None,
    *,
    block: str,
    tensor: str | None = None,
    columns: Sequence[str] = (),
    dtype: Dtype | None = None,
) -> Block:
    """Reads a block from a safetensors file.

    With `names`, one tensor [photos, columns] is read: `tensor`, by default the only tensor of two
    dimensions, else the tensor named like the block. Without `names`, every tensor is the vector of
    one photo and has the photo's name. The other arguments are the same as in `read_block_npy`.
    """
    try:
        reading.check_file(Path(path), reading.ARRAY)
        file = safe_open(path, framework="numpy")
        parts = {name: file.get_slice(name) for name in sorted(file.keys())}
        shapes = {name: list(part.get_shape()) for name, part in parts.items()}
        types = {name: part.get_dtype() for name, part in parts.items()}
    except Exception as error:  # damaged headers raise many exception types
        raise UserError(f"{path}: can't be read as safetensors ({tables.reason(error)})") from None
    some = ", ".join(f"'{name[:40]}' {types[name]} {shapes[name]}" for name in list(parts)[:3])
    holds = f"{path}: holds {len(parts):,} tensors{': ' if parts else ''}{some}"
    if names is None:
        chosen = _vectors(holds, shapes, tensor)
    else:
        chosen = [_matrix(holds, shapes, tensor, block)]
    for name in chosen:
        if types[name] not in _TENSOR_TYPES:
            raise UserError(
                f"{path}: tensor '{name[:80]}' has numbers of type {types[name]}, which NumPy "
                "lacks; save it as float16 or float32"
            )
    arrays = [file.get_tensor(name) for name in chosen]
    if names is None:
        return _named_block(path, np.stack(arrays), chosen, block, columns, dtype)
    photos = _read_names(names, path, len(arrays[0]))
    return _named_block(path, arrays[0], photos, block, columns, dtype)


def _vectors(holds: str, shapes: dict[str, list[int]], tensor: str | None) -> list[str]:
    """Names of the tensors of a file with one tensor per photo: all of them."""
    if tensor is not None:
        raise UserError(f"{holds}; --tensor={tensor} needs --names, the photos of its rows")
    lengths = {tuple(shape) for shape in shapes.values()}
    if len(lengths) != 1 or len(lengths.pop()) != 1:
        raise UserError(
            f"{holds}; without --names every tensor must be one photo's vector, all of one length"
        )
    return list(shapes)


def _matrix(holds: str, shapes: dict[str, list[int]], tensor: str | None, block: str) -> str:
    """Name of the tensor with a row for each photo."""
    if tensor is None:
        matrices = [name for name, shape in shapes.items() if len(shape) == 2]
        tensor = matrices[0] if len(matrices) == 1 else block
    if len(shapes.get(tensor, [])) != 2:
        raise UserError(
            f"{holds}; '{tensor}' is not a tensor with two dimensions; choose one by --tensor"
        )
    return tensor


def _read_names(names: Path | str, path: Path | str, rows: int) -> list[str]:
    lines = [line.strip() for line in tables.text_lines(tables.read_text(names))]
    if not lines[-1]:
        lines.pop()
    numbers = list(range(1, len(lines) + 1))
    table = tables.Table(Path(names), ["photo"], [[name] for name in lines], numbers)
    photos = table.distinct_photos("photo")
    if len(photos) != rows:
        raise UserError(f"{names}: {len(photos):,} names, but {path} has {rows:,} rows")
    return photos


def _named_block(
    path: Path | str,
    values: np.ndarray,
    photos: list[str],
    block: str,
    columns: Sequence[str],
    dtype: Dtype | None,
) -> Block:
    return block_of_array(
        str(path),
        values,
        photos,
        block=block,
        columns=columns,
        source=Path(path).name,
        dtype=dtype,
    )
