"""`extract`: a feature store from photos."""

from typing import TYPE_CHECKING

from absl import flags

from jaxrank.commands.flags import DECODERS, about_weights, define_workers, refuse_empty
from jaxrank.commands.streams import announce, printing, warn
from jaxrank.commands.terminal import log_console, make_console
from jaxrank.errors import UserError, did_you_mean
from jaxrank.extraction.extractors import EXTRACTORS, Options

if TYPE_CHECKING:
    from jaxrank.extraction.pipeline import Extracted

EXAMPLE = "--photos=bursts --features=store --series=folder"
# Maximum number of unreadable photos listed on the screen; photos.csv lists all of them.
_NAMED = 5


def define(values: flags.FlagValues, words: list[str]) -> None:
    del words  # this command has no config
    for name, default, meaning in (
        ("photos", None, "folder of photos, with sub-folders"),
        ("photos_csv", None, "table with the column image and, where names are not paths, path"),
        ("features", None, "folder of the store; made when there is none"),
        (
            "series",
            None,
            "also writes series.csv: folder (sub-folders are series), time (bursts), or a table",
        ),
    ):
        flags.DEFINE_string(name, default, meaning, flag_values=values)
    flags.DEFINE_list(
        "blocks", list(EXTRACTORS), f"which of {', '.join(EXTRACTORS)}", flag_values=values
    )
    for kind in EXTRACTORS.values():
        for o in kind.options:
            if o.choices:
                flags.DEFINE_enum(o.name, o.default, list(o.choices), o.help, flag_values=values)
            else:
                flags.DEFINE_string(o.name, o.default, o.help, flag_values=values)
    flags.DEFINE_enum(
        "device", "cpu", ["cpu", "cuda"], "device of the networks", flag_values=values
    )
    define_workers(values, DECODERS)
    flags.DEFINE_boolean("strict", False, "an unreadable photo is an error", flag_values=values)
    flags.DEFINE_boolean(
        "verify",
        False,
        "read all photos again, also unchanged ones (same size and time of change)",
        flag_values=values,
    )
    flags.DEFINE_float(
        "gap_seconds", 10.0, "--series=time: the longest pause inside a series", flag_values=values
    )
    flags.DEFINE_float(
        "min_similarity",
        None,
        "--series=time: the least cosine of neighbours' vectors (default: 0.75 for CLIP with "
        "trained weights, none for other blocks)",
        flag_values=values,
    )
    flags.mark_flags_as_mutual_exclusive(
        ["photos", "photos_csv"], required=True, flag_values=values
    )
    flags.register_validator(
        "gap_seconds", lambda seconds: seconds > 0, "must be above 0", flag_values=values
    )
    flags.register_validator(
        "min_similarity",
        lambda least: least is None or -1 <= least <= 1,
        "must be between -1 and 1",
        flag_values=values,
    )


def run(values: flags.FlagValues, config: None) -> int:
    """Extracts the blocks clip, cnn and iqa from photos in one pass. Keeps existing rows and
    resumes a stopped run. Downloads missing weights. Writes photos.csv, with the reason for every
    photo that can't be used, and, with --series, series.csv."""
    del config
    _check_flags(values)

    from jaxrank.extraction import pipeline
    from jaxrank.extraction.photos import list_folder, list_table
    from jaxrank.extraction.series_table import Grouping
    from jaxrank.reporting.fitted_table import show_lines

    listing = list_table(values.photos_csv) if values.photos is None else list_folder(values.photos)
    chosen = [o for block in values.blocks for o in EXTRACTORS[block].options]
    options = Options(values.blocks, values.device, {o.name: values[o.name].value for o in chosen})
    grouping = None
    if values.series is not None:
        grouping = Grouping(values.series, values.gap_seconds, values.min_similarity)
    console = make_console(values)
    announce(console, f"{len(listing.photos):,} photos in {values.photos or values.photos_csv}")
    if names := options.weights_to_fetch():
        announce(console, f"{about_weights(names)}; --blocks=iqa needs none")
    try:
        found = pipeline.extract(
            listing,
            values.features,
            options,
            grouping=grouping,
            num_workers=values.workers,
            strict=values.strict,
            verify=values.verify,
            console=log_console(values),
        )
    except KeyboardInterrupt:
        warn("jaxrank: stopped; the same command resumes from here")
        return 130
    with printing(values.features):
        show_lines(console, *_lines(values.features, found))
    return 0


def _lines(store: str, found: "Extracted") -> list[str]:
    known = {block: len(found.good) - made for block, made in found.made.items()}
    lines = [
        f"block '{block}': {made:,} new photos, {known[block]:,} known; {found.sources[block]}"
        for block, made in found.made.items()
    ]
    speed = (len(found.good) + len(found.bad)) / found.seconds
    lines.append(f"{found.seconds:.1f} s, {speed:.1f} photos/s")
    if found.bad:
        lines.append(f"{len(found.bad):,} photos can't be used:")
        lines += [f"  {name}: {reason}" for name, reason in list(found.bad.items())[:_NAMED]]
        if len(found.bad) > _NAMED:
            lines.append("  ...")
    if found.num_series is not None:
        lines.append(f"{found.num_series:,} series of at least two photos in series.csv")
    return [*lines, *found.notes, "", f"Features: {store}, all photos in {store}/photos.csv"]


def _check_flags(values: flags.FlagValues) -> None:
    """Raises UserError for flags or blocks that are missing, unknown or without effect."""
    refuse_empty(values, values)
    if values.features is None:
        raise UserError("--features is missing: the folder of the store")
    for block in values.blocks:
        if block not in EXTRACTORS:
            raise UserError(f"--blocks: '{block}' unknown.{did_you_mean(block, EXTRACTORS)}")
    for block, kind in EXTRACTORS.items():
        for option in kind.options:
            if values[option.name].present and block not in values.blocks:
                raise UserError(f"--{option.name} needs the block '{block}' in --blocks")
    for name in ("gap_seconds", "min_similarity"):
        if values[name].present and values.series != "time":
            raise UserError(f"--{name} goes with --series=time")
