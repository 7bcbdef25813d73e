"""`audit`: do these labels belong to these photos?"""

import sys

from absl import flags

from jaxrank.commands.console import default_workdir
from jaxrank.commands.models import READING, define_pairs
from jaxrank.errors import UserError

# The exit status of a failed audit.
FAILED = 3


def define_audit(values: flags.FlagValues, words: list[str]) -> None:
    del words  # no config here
    define_pairs(values)
    for name, meaning in {
        "features": "folder of a feature store",
        "reference": "pairs or votes of the same photos, known to be right, to name a fault by",
        "workdir": "new folder for the results (default: one named by the time, in outputs/)",
    }.items():
        flags.DEFINE_string(name, None, meaning, flag_values=values)
    flags.DEFINE_float(
        "audit_seconds", 30.0, "seconds that looking for a link may take", flag_values=values
    )


def audit(values: flags.FlagValues, config: None) -> int:
    """Tells whether preferences and features belong together, what speaks for it, and what to do
    next; with --reference it names the fault. Writes audit.json and audit.txt. The exit status is 3
    where the audit fails."""
    del config
    for name in ("pairs", "features", "reference", "photo_name", "workdir"):
        if values[name].value == "":
            raise UserError(f"--{name} is empty")
    if not values.audit_seconds > 0:
        raise UserError(f"--audit_seconds={values.audit_seconds:g} is not above 0")

    from jaxrank.audit import verdict
    from jaxrank.audit.api import audit_data
    from jaxrank.io import atomic
    from jaxrank.launches import find_workdir

    folder = find_workdir(values.workdir or default_workdir("audit"), resume=False)
    reading = {name: values[name].value for name in READING}
    found = audit_data(
        values.pairs, values.features, values.reference, reading, values.audit_seconds
    )
    with atomic.written_to(folder):
        verdict.write_audit(folder, found)
    print(found.page())
    print(f"Results: {folder}")
    sys.stdout.flush()
    return FAILED if found.failed else 0
