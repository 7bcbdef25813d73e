"""`features`: blocks of a feature store, from files or another store."""

from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from jaxrank.commands.streams import printing
from jaxrank.commands.terminal import make_console
from jaxrank.errors import UserError

if TYPE_CHECKING:
    from jaxrank.data.feature_store import Block

EXAMPLE = "--from_parquet=embeddings.parquet --block=clip --features=store"
# Flags that only some sources accept, by source.
_SOURCES = {
    "from_csv": (),
    "from_parquet": (),
    "from_npz": (),
    "from_npy": ("names", "columns"),
    "from_safetensors": ("names", "columns", "tensor"),
    "from_store": (),
}


def define(values: flags.FlagValues, words: list[str]) -> None:
    del words  # this command has no config
    for name, meaning in {
        "from_csv": "CSV: first column the photo's name, the others the block's columns",
        "from_parquet": "a text column (or 'image') of photo names, and a column a feature or one "
        "column of lists",
        "from_npz": "NumPy archive: the array 'names', text, and an array for each block, called "
        "by its name",
        "from_npy": "NumPy array of two dimensions, a row for each line of --names",
        "from_safetensors": "with --names, one tensor as in --from_npy; without, a vector a photo, "
        "called by the photo's name",
        "from_store": "another store, whose blocks and photos are added",
        "names": "text file with one photo a line",
        "tensor": "the tensor that --names belongs to (default: the only one of two dimensions, "
        "else the one called like the block)",
        "block": "name of the block, such as clip, cnn or iqa",
        "features": "folder of the store; made when there is none",
    }.items():
        flags.DEFINE_string(name, None, meaning, flag_values=values)
    flags.DEFINE_list(
        "columns",
        None,
        "names of an array's columns, comma separated (default: BLOCK_0,BLOCK_1,...)",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "dtype",
        None,
        ["float16", "float32"],
        "numbers of the store (default: float16 stays float16, all others become float32)",
        flag_values=values,
    )


def run(values: flags.FlagValues, config: None) -> int:
    """Adds a block to a feature store, or replaces it, from a CSV, parquet, .npy or safetensors
    file; or adds all blocks of an .npz file, or all that another store has."""
    del config
    source = _check_flags(values)
    if source == "from_store":
        return _merge(values)

    from jaxrank.data.feature_store import write_block, writing_errors
    from jaxrank.io import atomic
    from jaxrank.reporting.fitted_table import show_lines

    console = make_console(values)
    blocks = _read_blocks(values, source)
    store = Path(values.features)
    for name, block in blocks.items():
        with writing_errors(store), atomic.sole_writer(store):
            replaced = write_block(store, name, block)
        what = "replaced" if replaced else "new"
        with printing(store):
            show_lines(
                console,
                f"{values.features}: {what} block '{name}' of {len(block.photos):,} photos and "
                f"{len(block.columns):,} columns ({', '.join(block.columns[:4])}"
                f"{', ...' if len(block.columns) > 4 else ''}) in {block.values.dtype}",
            )
    return 0


def _read_blocks(values: flags.FlagValues, source: str) -> "dict[str, Block]":
    from jaxrank.data import importers

    if source == "from_npz":
        return importers.read_blocks_npz(values.from_npz, dtype=values.dtype)
    if source == "from_csv":
        block = importers.read_block_csv(values.from_csv, dtype=values.dtype)
    elif source == "from_parquet":
        block = importers.read_block_parquet(
            values.from_parquet, block=values.block, dtype=values.dtype
        )
    elif source == "from_npy":
        block = importers.read_block_npy(
            values.from_npy,
            values.names,
            block=values.block,
            columns=values.columns or (),
            dtype=values.dtype,
        )
    else:
        block = importers.read_block_safetensors(
            values.from_safetensors,
            values.names,
            block=values.block,
            tensor=values.tensor,
            columns=values.columns or (),
            dtype=values.dtype,
        )
    return {values.block: block}


def _merge(values: flags.FlagValues) -> int:
    from jaxrank.data.merge import merge_stores
    from jaxrank.reporting.fitted_table import show_lines

    console = make_console(values)
    merged = merge_stores(values.from_store, values.features)
    with printing(values.features):
        for block, new in merged.items():
            show_lines(console, f"{values.features}: {new:,} new photos in block '{block}'")
    return 0


def _check_flags(values: flags.FlagValues) -> str:
    """Returns the only source flag; raises UserError for missing flags and flags without effect."""
    given = [name for name in values if values[name].present]
    for name in given:
        if values[name].value in ("", []):
            raise UserError(f"--{name} is empty")
    sources = [name for name in _SOURCES if name in given]
    if len(sources) != 1:
        raise UserError(
            f"give one of {', '.join(f'--{name}' for name in _SOURCES)}, not "
            f"{' and '.join(f'--{name}' for name in sources) or 'none of them'}"
        )
    (source,) = sources
    needed = {
        "from_npy": ["block", "features", "names"],
        "from_npz": ["features"],
        "from_store": ["features"],
    }.get(source, ["block", "features"])
    for name in needed:
        if name not in given:
            raise UserError(
                f"--{name} is missing: --{source} needs {', '.join(f'--{n}' for n in needed)}"
            )
    for name in (
        "names",
        "columns",
        "tensor",
        *{"from_store": ["block", "dtype"], "from_npz": ["block"]}.get(source, []),
    ):
        if name in given and name not in _SOURCES[source]:
            raise UserError(f"--{name} does not go with --{source}")
    return source
