"""Section: the selected experiment as a configuration, `best_config.py` and `best_config.json`."""

import re
from pprint import pformat
from typing import Any

from jaxrank.configs import REFERENCES, SELECTED_ON
from jaxrank.errors import program
from jaxrank.experiments.hyperparameters import HYPERPARAMETERS, Experiment
from jaxrank.io import atomic, documents
from jaxrank.reporting.report import Report, Section
from jaxrank.reporting.summary import percent

BEST_CONFIG_PY, BEST_CONFIG_JSON = "best_config.py", "best_config.json"
# Names that a space gives to its experiments.
_OF_SPACE = re.compile(r"e\d{4,}")
# Note in the configuration of an experiment that began from a saved model.
_BEGAN_FROM_MODEL = "selected in a search with --init_from: give that model again"
_PYTHON = '''"""The experiment that a search selected: {name}, {accuracy}.

    {program} search --config={file} --pairs=pairs.csv --features=store{options}

On the data of that search (`selected_on` is their hash), `search` and `train` do not correct the
accuracy for this selection, and warn in every table: quote the accuracy above.{split}
"""

from ml_collections import ConfigDict

from jaxrank.configs import default

VALUES = {values}
# As in the search: the values above are not theirs.
REFERENCES = {references}
# Hash of the pairs and features that selected the experiment.
SELECTED_ON = {{{selected_on!r}: {data!r}}}


def get_config() -> ConfigDict:
    only = {{"experiments": {{{key!r}: VALUES}}, "modes": {{"quick": ({key!r},)}}}}
    values = default.get_config().to_dict() | VALUES | REFERENCES | SELECTED_ON | only
    return ConfigDict(values, allow_dotted_keys=True)
'''


def section(report: Report) -> Section:
    chosen = report.ranking.chosen
    paths = [report.folder / name for name in (BEST_CONFIG_PY, BEST_CONFIG_JSON)]
    if chosen is None:
        for path in paths:
            path.unlink(missing_ok=True)
        return Section()
    experiment = report.chosen_results[0].trial.experiment
    values = config_values(experiment)
    taken = experiment.name in REFERENCES or _OF_SPACE.fullmatch(experiment.name)
    key = f"best_{experiment.name}" if taken else experiment.name
    trained = {result.trial.experiment.name: result.trial.experiment for result in report.results}
    references = {name: config_values(trained[name]) for name in REFERENCES if name in trained}
    accuracy = percent(chosen.accuracy)
    num_folds = len(report.evaluator.splits_FM)
    options = f" --folds={num_folds}" if num_folds > 1 else ""
    options += " --init_from=MODEL" if experiment.init_from else ""
    split = f"\nWithout --folds={num_folds} both train on one split." if num_folds > 1 else ""
    atomic.write_text(
        paths[0],
        _PYTHON.format(
            name=experiment.name,
            accuracy=f"{accuracy} of pairs of new series" if accuracy else "in too few series",
            program=program(),
            file=BEST_CONFIG_PY,
            options=options,
            split=split,
            values=pformat(values, sort_dicts=False),
            references=pformat(references, sort_dicts=False),
            selected_on=SELECTED_ON,
            data=report.data,
            key=key,
        ),
    )
    only = {"experiments": {key: values}, "modes": {"quick": [key]}}
    documents.write_json(paths[1], values | references | {SELECTED_ON: report.data} | only)
    start = ", with --init_from of this search" if experiment.init_from else ""
    return Section(
        notes=[f"{experiment.name} as a configuration, for --config{start}: {paths[0].name}"]
    )


def config_values(experiment: Experiment) -> dict[str, Any]:
    """Returns an experiment's hyperparameters in the form of a config.

    A patience of 0 is omitted: it follows from few validation series, and a new search derives it
    again. A config can't name an initial model: `notes` says that the search began from one.
    """
    values = {
        key: ",".join(map(str, value)) if isinstance(value, tuple) else value
        for key, value in ((key, getattr(experiment, key)) for key in HYPERPARAMETERS)
        if key not in ("name", "init_from")
    }
    if not experiment.patience:
        del values["patience"]
    if experiment.init_from and _BEGAN_FROM_MODEL not in experiment.notes:
        values["notes"] = "; ".join(filter(None, [experiment.notes, _BEGAN_FROM_MODEL]))
    return values
