"""`audit`: checks whether preferences and photos belong together."""

from absl import flags

from jaxrank.commands.flags import (
    define_audit_seconds,
    define_options,
    define_strings,
    refuse_empty,
)
from jaxrank.commands.streams import printing
from jaxrank.commands.terminal import default_workdir, make_console, print_json, prints_json
from jaxrank.runner.options import READING

EXAMPLE = "--pairs=pairs.csv --features=store"
# Exit status of a failed audit.
FAILED = 3


def define(values: flags.FlagValues, words: list[str]) -> None:
    del words  # this command has no config
    define_strings(
        values,
        {
            "pairs": "pairs or votes, as for 'search'; without it the embedded simulated data",
            "features": "folder of a feature store, or a file: .parquet, .npz or .csv",
            "reference": "pairs or votes of the same photos, known to be right, to name a fault by",
            "workdir": "new folder for the results (default: one named by the time, in outputs/)",
        },
    )
    define_options(values, READING)
    define_audit_seconds(values)


def run(values: flags.FlagValues, config: None) -> int:
    """Reports whether preferences and features belong together, the evidence, and what to do
    next; with --reference it names the fault. Writes audit.json and audit.txt. The exit status is 3
    where the audit fails."""
    del config
    refuse_empty(values, ("pairs", "features", "reference", "photo_name", "series", "workdir"))

    from jaxrank.runner import signals

    with signals.signals_end_at_once():
        return _run(values)


def _run(values: flags.FlagValues) -> int:
    from jaxrank.audit import checks
    from jaxrank.audit.api import audit_data
    from jaxrank.io import atomic
    from jaxrank.reporting.fitted_table import show_lines
    from jaxrank.runner.resume import find_workdir

    console = make_console(values)
    folder = find_workdir(values.workdir or default_workdir("audit"), resume=False)
    reading = {name: values[name].value for name in READING}
    found = audit_data(
        values.pairs, values.features, values.reference, reading, values.audit_seconds
    )
    with atomic.written_to(folder):
        checks.write_audit(folder, found)
    with printing(folder):
        if prints_json(values):
            print_json(found._asdict() | {"workdir": str(folder)})
        else:
            show_lines(console, *found.page().splitlines(), "", f"Results: {folder}")
    return FAILED if found.failed else 0
