"""`evaluate`: metrics of a saved model or a baseline on any pairs."""

from absl import flags

from jaxrank.commands.flags import define_model, define_options, define_strings, model_workdir
from jaxrank.commands.streams import printing
from jaxrank.commands.terminal import make_console, print_json, prints_json
from jaxrank.runner.options import READING

EXAMPLE = "--model=outputs/search/simple_mlp/model --pairs=new_pairs.csv --features=store"


def define(values: flags.FlagValues, words: list[str]) -> None:
    del words  # this command has no config
    define_model(values)
    define_strings(
        values,
        {"pairs": "pairs or votes, as for 'search'; without it the embedded simulated data"},
    )
    define_options(values, READING)


def run(values: flags.FlagValues, config: None) -> int:
    """Evaluates a saved model and baselines on any pairs. Pairs with photos that the model has seen
    are reported separately. Writes predictions.csv and metrics.json."""
    del config
    folder = model_workdir(values, "evaluate")

    from jaxrank.inference.evaluate import evaluate_model
    from jaxrank.io import atomic, documents, tables
    from jaxrank.reporting.console import print_metrics
    from jaxrank.reporting.fitted_table import show_lines

    reading = {name: values[name].value for name in READING}
    console = make_console(values)
    result = evaluate_model(
        values.model, values.pairs, values.features, baseline=values.baseline, **reading
    )
    metrics = result.metrics.to_dict("records")
    with atomic.written_to(folder):
        tables.write_frame(folder / "predictions.csv", result.predictions)
        facts = {
            "model": values.model,
            "baseline": values.baseline,
            "pairs": values.pairs,
            "features": values.features,
        }
        document = facts | {"notes": result.notes, "metrics": metrics}
        documents.write_json(folder / "metrics.json", document)
    with printing(folder):
        if prints_json(values):
            print_json(document | {"workdir": str(folder), "caveats": result.caveats})
        else:
            print_metrics(console, result.metrics)
            show_lines(console, *result.notes, "", f"Results: {folder}")
    return 0
