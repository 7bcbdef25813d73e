"""`evaluate`: a saved model measured on any pairs."""

from absl import flags

from jaxrank.commands.flags import define_model, define_options, define_strings, model_workdir
from jaxrank.commands.streams import printing
from jaxrank.commands.terminal import make_console
from jaxrank.runner.options import READING


def define(values: flags.FlagValues, words: list[str]) -> None:
    del words  # no config here
    define_model(values)
    define_strings(
        values,
        {"pairs": "pairs or votes, as for 'search'; without it the embedded simulated data"},
    )
    define_options(values, READING)


def run(values: flags.FlagValues, config: None) -> int:
    """Measures a saved model on any pairs, apart for photos that it has seen, with the baselines
    beside it; writes predictions.csv and metrics.json."""
    del config
    folder = model_workdir(values, "evaluate")

    from jaxrank.inference.evaluate import evaluate_model
    from jaxrank.io import atomic, documents, tables
    from jaxrank.reporting import console

    reading = {name: values[name].value for name in READING}
    result = evaluate_model(values.model, values.pairs, values.features, **reading)
    metrics = result.metrics.to_dict("records")
    with atomic.written_to(folder):
        tables.write_frame(folder / "predictions.csv", result.predictions)
        facts = {"model": values.model, "pairs": values.pairs, "features": values.features}
        documents.write_json(
            folder / "metrics.json", facts | {"notes": result.notes, "metrics": metrics}
        )
    with printing(folder):
        console.print_metrics(make_console(), result.metrics)
        print(*result.notes, f"\nResults: {folder}", sep="\n")
    return 0
