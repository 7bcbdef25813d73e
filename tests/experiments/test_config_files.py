"""Config files that are wrong: one line that names the file and the key."""

from pathlib import Path

import numpy as np
import pytest

from jaxrank.configs import default
from jaxrank.errors import UserError
from jaxrank.experiments import config_files

FILE = """
from ml_collections import config_dict
from jaxrank.configs import default

def get_config():
    c = default.get_config()
    with c.ignore_type():
        {line}
    return c
"""


@pytest.mark.parametrize(
    ("line", "pattern"),
    [
        ("c.dropout = config_dict.placeholder(float)", "'dropout' is 'None' of type NoneType"),
        ("c.dropout = config_dict.required_placeholder(float)", "'dropout' has no usable value"),
        ("c.dropout = config_dict.placeholder(float) + 1", "'dropout' is 'None' of type NoneType"),
        ("c.dropout = None", "'dropout' is 'None' of type NoneType; it must be of type float"),
        ("c.dropout = len", "'dropout' is '<built-in function len>' of type builtin_function"),
        ("c.dropout = {'a': 1}", "'dropout' is .* of type dict"),
        ("c.loss = 1", "'loss' is '1' of type int; it must be of type str"),
        ("c.selected_on = 1", "'selected_on' is '1' of type int; it must be of type str"),
        ("c[1] = 2", "a key is not text"),
        ("c.experiments = {1: {}}", "in 'experiments': the key 1 is not text"),
        ("c.experiments = {'x': {1: 0.1}}", "in 'x': the key 1 is not text"),
        ("c.experiments = {'x': {1: 0.1, 'dropout': 0.1}}", "'experiments' has no usable value"),
        ("c.modes = {1: ('baseline',)}", "in 'modes': the key 1 is not text"),
        (
            "c.experiments.baseline.dropout = len",
            "'baseline': the key 'dropout' is of type",
        ),
        ("c.linear = {'dropout': None}", "'linear': the key 'dropout' is of type NoneType"),
        ("c.unlock(); c.linear = c", "the config holds itself"),
        ("raise SystemExit(0)", "failed: SystemExit: 0"),
        ("raise KeyboardInterrupt", "failed: KeyboardInterrupt"),
        ("raise GeneratorExit", "failed: GeneratorExit"),
        ("raise type('E', (BaseException,), {})('why')", "failed: .*E: why"),
        ("raise type('E', (Exception,), {'__str__': lambda self: 1 / 0})", "failed: .*E"),
    ],
)
def test_a_wrong_config_file_is_one_line(tmp_path: Path, line: str, pattern: str) -> None:
    path = tmp_path / "config.py"
    path.write_text(FILE.format(line=line))
    with pytest.raises(UserError, match=f"^--config={path}: .*{pattern}") as raised:
        config_files.load_config(str(path))
    assert "\n" not in str(raised.value)


def test_numbers_get_the_types_of_the_default() -> None:
    config = default.get_config()
    with config.ignore_type():
        config.learning_rate, config.batch_size = 1, np.int64(32)
    checked = config_files.check_config(config, "config")
    assert [type(checked.learning_rate), type(checked.batch_size)] == [float, int]


def test_a_plan_without_the_hash_of_a_selection_is_read() -> None:
    """Searches that were begun by an older version resume."""
    values = default.get_config().to_dict()
    del values["selected_on"]
    config = config_files.check_config(config_files.make_config(values), "config")
    assert config.selected_on == ""
