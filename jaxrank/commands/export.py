"""`export`: a saved model's scorer as a file for other programs."""

from absl import flags

from jaxrank.commands.flags import MODEL_HELP, define_strings, refuse_empty
from jaxrank.commands.streams import printing
from jaxrank.commands.terminal import make_console
from jaxrank.errors import UserError

EXAMPLE = "--model=outputs/search --format=numpy --out=scorer.py"


def define(values: flags.FlagValues, words: list[str]) -> None:
    del words  # this command has no config
    define_strings(
        values,
        {
            "model": MODEL_HELP,
            "out": "new file (default: MODEL_scorer.py here, named by the model's folder)",
        },
    )
    flags.DEFINE_enum("format", "numpy", ["numpy"], "file format", flag_values=values)


def run(values: flags.FlagValues, config: None) -> int:
    """Writes one Python file that loads a model's folder and scores rows of features with NumPy
    and nothing else, and tests it on the model's test vectors."""
    del config
    refuse_empty(values, ("model", "out"))
    if values.model is None:
        raise UserError("--model is missing: give the folder of a search or of a saved model")

    from jaxrank.inference.export import export_numpy
    from jaxrank.reporting.fitted_table import show_lines

    console = make_console(values)
    exported = export_numpy(values.model, values.out)
    with printing(exported.path):
        show_lines(
            console,
            f"{exported.path} scores as the model does: the largest difference on "
            f"{exported.num_vectors:,} test vectors is {exported.difference:.2g}",
            f"Test it anywhere: python {exported.path} {exported.model}",
        )
    return 0
