"""`cull`: picks from a folder of photos, with a contact sheet and sidecars."""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from absl import flags

from jaxrank.commands.flags import (
    DECODERS,
    MODEL_HELP,
    about_weights,
    define_strings,
    define_workers,
    refuse_empty,
)
from jaxrank.commands.streams import announce, printing, warn
from jaxrank.commands.terminal import log_console, make_console, print_json, prints_json
from jaxrank.errors import UserError
from jaxrank.extraction.extractors import EXTRACTORS

if TYPE_CHECKING:
    import pandas as pd

    from jaxrank.culling.grouping import Group

EXAMPLE = "bursts --model=outputs/search --write=xmp"
CULL_HTML = "cull.html"
# Maximum number of unreadable photos listed on the screen.
_NAMED = 5


def define(values: flags.FlagValues, words: list[str]) -> None:
    del words  # this command has no config
    define_strings(
        values,
        {
            "photos": "folder of photos, with sub-folders; --photos= may be left out",
            "model": MODEL_HELP,
            "baseline": "in place of a model (default without one: signed_sum); it gives no "
            "probabilities",
            "series": "table with series_id,image, instead of grouping by time and similarity; may "
            "be the edited groups.csv, which stays",
            "workdir": "folder for cull.csv, cull.html and what was read (default: one for these "
            "photos, in outputs/cull/)",
            "changes": "table of path and decision or rating (docs/results.md), as the contact "
            "sheet exports it, or the edited cull.csv; those stay",
            "out": "--write=copies, links: new folder for the picks",
        },
    )
    for option in _weights():
        meaning = "local weights file, if the model's features were made with one"
        flags.DEFINE_string(option, None, meaning, flag_values=values)
    flags.DEFINE_enum(
        "write",
        None,
        ["xmp", "copies", "links"],
        "also writes: XMP sidecars beside the photos, or a folder of picks (--out). Lightroom and "
        "Bridge read sidecars of RAW photos only, not of JPEG, HEIC or DNG; darktable may ignore "
        "sidecars of photos that it knows (docs/sidecars.md)",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "sidecar", "adobe", ["adobe", "full"], "IMG_1.xmp, or IMG_1.CR3.xmp", flag_values=values
    )
    flags.DEFINE_boolean(
        "reject",
        False,
        "--write=xmp: candidates for rejection get the rating -1",
        flag_values=values,
    )
    flags.DEFINE_float(
        "confidence",
        None,
        "smallest probability of a pick (default: four of five such picks were right on series "
        "that the model was not trained on)",
        flag_values=values,
    )
    flags.DEFINE_float("gap_seconds", 10.0, "the longest pause inside a burst", flag_values=values)
    define_workers(values, DECODERS)
    flags.mark_flags_as_mutual_exclusive(["model", "baseline"], flag_values=values)
    flags.register_validator(
        "gap_seconds", lambda seconds: seconds > 0, "must be above 0", flag_values=values
    )


def run(values: flags.FlagValues, config: None) -> int:
    """Groups the photos of a folder into bursts, picks the best of each, and writes cull.csv and
    the contact sheet cull.html. Brackets, focus stacks and panoramas are set aside. No photo is
    changed, moved or deleted. A second run reads only new photos."""
    del config
    refuse_empty(values, values)
    if values.photos is None:
        raise UserError("--photos is missing: the folder of the photos")
    _check_writing(values)
    folder = Path(values.photos)
    workdir = Path(values.workdir) if values.workdir else _default_workdir(folder)

    from jaxrank.culling import actions
    from jaxrank.culling.api import check_folders, cull
    from jaxrank.culling.contact_sheet import write_sheet
    from jaxrank.culling.kept_thumbnails import kept_thumbnail
    from jaxrank.culling.written_table import CULL_CSV, WrittenTable
    from jaxrank.io import atomic
    from jaxrank.reporting.fitted_table import show_lines

    console = make_console(values)
    with atomic.written_to(workdir):
        check_folders(folder, workdir)  # before there is a new folder
        workdir.mkdir(parents=True, exist_ok=True)
        keep = "your decisions and ratings by --changes"
        cull_csv = WrittenTable(workdir / CULL_CSV, values.changes, keep)
    try:
        found = cull(
            folder,
            workdir,
            model=values.model,
            baseline=values.baseline,
            series=values.series,
            confidence=values.confidence,
            changes=values.changes,
            gap_seconds=values.gap_seconds,
            weights={name: str(values[name].value) for name in _weights() if values[name].present},
            num_workers=values.workers,
            console=log_console(values),
            on_groups=lambda groups: announce(console, *_about_groups(groups)),
            on_weights=lambda names: announce(console, about_weights(names)),
        )
    except KeyboardInterrupt:
        warn("jaxrank: stopped; the same command resumes from here")
        return 130
    with atomic.written_to(workdir):
        cull_csv.write(found.table)
        write_sheet(
            workdir / CULL_HTML,
            found.table,
            lambda name: kept_thumbnail(folder, name, workdir),
            title=folder.name or str(folder),
            notes=found.notes,
        )
    lines = [*_about_unread(found.unread), *found.notes]
    if values.write == actions.XMP:
        full, rejects = values.sidecar == "full", values.reject
        done = actions.write_sidecars(found.table, found.files, folder, full=full, rejects=rejects)
        lines += [f"{done.written:,} sidecars written or changed", *done.notes]
    elif values.write:
        done = actions.write_picks(found.table, found.files, folder, Path(values.out), values.write)
        lines.append(f"{done.written:,} files of picks in {values.out}")
    with printing(workdir / CULL_CSV):
        if prints_json(values):
            document = {"workdir": str(workdir), "notes": lines}
            print_json(document | {"photos": found.table.to_dict("records")})
        else:
            counts = _about_decisions(found.table["decision"], found.num_new)
            results = f"Results: {workdir / CULL_CSV}, {workdir / CULL_HTML}"
            show_lines(console, counts, *lines, "", results)
    return 0


def _weights() -> list[str]:
    return [o.name for kind in EXTRACTORS.values() for o in kind.options if o.names_weights]


def _check_writing(values: flags.FlagValues) -> None:
    if values.write in ("copies", "links") and not values.out:
        raise UserError(f"--write={values.write} needs --out: a new folder for the picks")
    if values.out and values.write not in ("copies", "links"):
        raise UserError("--out goes with --write=copies or --write=links")
    folder = Path(values.photos).resolve()
    if values.out and Path(values.out).resolve().is_relative_to(folder):
        raise UserError(f"--out={values.out}: is inside the folder of photos; name one outside")
    if values.confidence is not None and values.model is None:
        raise UserError("--confidence goes with --model: a baseline gives no probabilities")
    for name in ("reject", "sidecar"):
        if values[name].present and values.write != "xmp":
            raise UserError(f"--{name} goes with --write=xmp")


def _default_workdir(folder: Path) -> Path:
    """Returns a folder that depends on the photos' folder only, so that later runs reuse it."""
    absolute = os.path.abspath(folder)
    short = hashlib.sha256(absolute.encode()).hexdigest()[:8]
    return Path("outputs/cull") / f"{os.path.basename(absolute)}_{short}"


def _about_decisions(decisions: "pd.Series", num_new: int) -> str:
    from jaxrank.culling.decisions import UNDECIDED
    from jaxrank.data.preference_tables import counted

    counts = Counter(decision for decision in decisions.fillna("") if decision)
    parts = [
        f"{number:,} {name}" if name == UNDECIDED else counted(number, name)
        for name, number in counts.items()
    ]
    if others := len(decisions) - counts.total():
        parts.append(f"{others:,} without a decision")
    return f"{counted(len(decisions), 'photo')} ({num_new:,} read now): {', '.join(parts)}"


def _about_groups(groups: "Sequence[Group]") -> list[str]:
    counts: Counter[str] = Counter(group.kind for group in groups)
    names = {
        "burst": ("burst", "bursts"),
        "single": ("photo alone", "photos alone"),
        "bracket": ("exposure bracket", "exposure brackets"),
        "focus_stack": ("focus stack", "focus stacks"),
        "panorama": ("panorama", "panoramas"),
    }
    parts = [f"{counts[kind]:,} {names[kind][counts[kind] > 1]}" for kind in names if counts[kind]]
    photos = sum(len(group.photos) for group in groups)
    lines = [f"{photos:,} photos: {', '.join(parts)}"]
    if {"bracket", "focus_stack", "panorama"} & counts.keys():
        lines.append("brackets, focus stacks and panoramas are set aside: they are not culled")
    return [*lines, "groups.csv has them; a corrected table is given by --series=FILE"]


def _about_unread(unread: dict[str, str]) -> list[str]:
    if not unread:
        return []
    lines = [f"{len(unread):,} photos can't be used:"]
    lines += [f"  {name}: {reason}" for name, reason in list(unread.items())[:_NAMED]]
    return [*lines, "  ..."] if len(unread) > _NAMED else lines
