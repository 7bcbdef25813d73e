"""`features`: blocks of a feature store, from files."""

from absl import flags

from jaxrank.errors import UserError


def define_features(values: flags.FlagValues, words: list[str]) -> None:
    del words  # no config here
    for name, meaning in {
        "from_csv": "first column the photo's name, the others the block's columns",
        "block": "name of the block, such as clip, cnn or iqa",
        "features": "folder of the store; made when there is none",
    }.items():
        flags.DEFINE_string(name, None, meaning, flag_values=values)


def features(values: flags.FlagValues, config: None) -> int:
    """Adds a block to a feature store, or replaces it, from a CSV file."""
    del config
    for name in ("from_csv", "block", "features"):
        if not values[name].value:
            raise UserError(f"--{name} is missing: features needs --from_csv, --block, --features")

    from jaxrank.features import read_block_csv, write_block

    block = read_block_csv(values.from_csv)
    replaced = write_block(values.features, values.block, block)
    what = "replaced" if replaced else "new"
    print(
        f"{values.features}: {what} block '{values.block}' of {len(block.photos):,} photos and "
        f"{len(block.columns):,} columns ({', '.join(block.columns[:4])}"
        f"{', ...' if len(block.columns) > 4 else ''})"
    )
    return 0
