"""Config files: Python that returns anything."""

import pytest
from attack import Attack, Inputs, case
from ml_collections import ConfigDict

from jaxrank.configs import default
from jaxrank.experiments.hyperparameters import HYPERPARAMETERS

FILE = """
import sys
from ml_collections import ConfigDict, FieldReference, config_dict
from jaxrank.configs import default

def get_config():
    config = default.get_config()
    {}
    return config
"""
CHANGES = {
    "placeholder": "config.learning_rate = config_dict.placeholder(float)",
    "required-placeholder": "config.batch_size = config_dict.required_placeholder(int)",
    "placeholder-in-experiment": "config.experiments.tiny_mlp.dropout = "
    "config_dict.placeholder(float)",
    "reference": "config.dropout = FieldReference(0.1)",
    "callable": "config = lambda: None",
    "callable-value": "config.unlock(); config.notes = print",
    "type-value": "config = dict(config); config['notes'] = int; config = ConfigDict(config)",
    "none": "return None",
    "none-value": "config = ConfigDict(config.to_dict() | {'dropout': None})",
    "none-experiments": "config = ConfigDict(config.to_dict() | {'experiments': None})",
    "none-mode": "config = ConfigDict(config.to_dict() | {'modes': {'quick': None}})",
    "none-linear": "config = ConfigDict(config.to_dict() | {'linear': None})",
    "integer-key": "config = ConfigDict(config.to_dict() | {1: 2})",
    "integer-experiment": "config = ConfigDict(config.to_dict() | {'experiments': {1: {}}})",
    "integer-key-of-experiment": "config = ConfigDict(config.to_dict() | "
    "{'experiments': {'tiny_mlp': {1: 2}, 'simple_mlp': {}, 'clip_only': {}}})",
    "integer-mode": "config = ConfigDict(config.to_dict() | {'modes': {1: ('tiny_mlp',)}})",
    "tuple-key": "config = ConfigDict(config.to_dict() | {('a', 'b'): 2})",
    "name-with-a-dot": "config = ConfigDict(config.to_dict() | {'a.b': 2})",
    "mode-of-numbers": "config = ConfigDict(config.to_dict() | {'modes': {'quick': (1, 2)}})",
    "mode-unknown-name": "config = ConfigDict(config.to_dict() | {'modes': {'quick': ('x',)}})",
    "experiment-a-list": "config = ConfigDict(config.to_dict() | {'experiments': {'x': [1]}})",
    "experiment-a-path": "config = ConfigDict(config.to_dict() | "
    "{'experiments': {'../x': {}}, 'modes': {'quick': ('../x',)}})",
    "escape-in-a-key": "config = ConfigDict(config.to_dict() | {'\\x1b[31m': 1})",
    "surrogate": "config.notes = '\\ud800'",
    "itself": "config.unlock(); config.notes = config",
    "exception": "raise KeyError('\\x1b[31m\\n\\n')",
    "exception-without-text": "raise Exception",
    "exception-that-fails": "raise type('E', (Exception,), {'__str__': lambda s: 1 / 0})",
    "base-exception": "raise BaseException('b')",
    "generator-exit": "raise GeneratorExit",
    "system-exit": "sys.exit('bye')",
    "system-exit-0": "sys.exit(0)",
    "recursion": "return get_config()",
    "memory": "raise MemoryError",
    "generator": "yield",
    "string": "return 'config'",
    "dict": "return config.to_dict()",
    "class": "return ConfigDict",
    "numpy": "import numpy; config.dropout = numpy.float64(1)",
}
# What may be meant.
FINE = ("reference",)


@pytest.mark.parametrize("name", CHANGES)
def test_a_config_that_is_none_is_refused(attack: Attack, inputs: Inputs, name: str) -> None:
    path = inputs.folder / "c.py"
    path.write_text(FILE.format(CHANGES[name]))
    words = ["search", *inputs.words, "--dry_run", f"--config={path}", "--mode=quick"]
    answer = attack.answers(*words, writes=inputs.folder / "__pycache__")
    assert answer.status == (0 if name in FINE else 2)


FILES = [
    case("empty", ""),
    case("syntax", "def get_config(:"),
    case("indentation", " x = 1\n  y"),
    case("zero byte", "x = 1\0"),
    case("other encoding", "# coding: nonsense\n"),
    case("number", "get_config = 3"),
    case("class", "class get_config:\n    pass"),
    case("arguments", "def get_config(a, b):\n    return a"),
    case("coroutine", "async def get_config():\n    pass"),
    case("exit", "raise SystemExit"),
    case("import", "import nonsense_that_is_not_there"),
    case("nested", "x = " + "(" * 5000),
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("text", FILES)
def test_a_file_that_is_no_config_is_refused(attack: Attack, inputs: Inputs, text: str) -> None:
    path = inputs.folder / "c.py"
    path.write_text(text)
    attack.refused("search", "--dry_run", *inputs.words, f"--config={path}", names="c.py")


@pytest.mark.parametrize("name", ["", ".", "/dev/null", "missing.py", "a\udcffb", "x" * 300])
def test_a_path_that_is_no_config_is_refused(attack: Attack, inputs: Inputs, name: str) -> None:
    attack.refused("search", "--dry_run", *inputs.words, f"--config={name}")


VALUES = {
    "null": "None",
    "list": "[1]",
    "bytes": "b'x'",
    "nan": "float('nan')",
    "huge": "10**400",
    "2^63": "2**63",
}
KEYS = [key for key in HYPERPARAMETERS if key not in ("name", "init_from")]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        case(f"{key}-{value}", key, value, long=value not in ("null", "huge"))
        for key in KEYS
        for value in VALUES
    ],
)
def test_a_hyperparameter_of_another_kind_is_refused(
    attack: Attack, inputs: Inputs, key: str, value: str
) -> None:
    """As a config file can set it, past the types of flags."""
    path = inputs.folder / "c.py"
    path.write_text(
        FILE.format(f"config = ConfigDict(config.to_dict() | {{'{key}': {VALUES[value]}}})")
    )
    words = ["search", *inputs.words, "--dry_run", f"--config={path}", "--experiments=iqa_only"]
    answer = attack.answers(*words)
    if answer.status == 0:
        numeric = isinstance(default.get_config()[key], float)
        assert numeric
        assert value == "2^63"


def test_the_default_config_is_refused_nowhere(attack: Attack, inputs: Inputs) -> None:
    path = inputs.folder / "c.py"
    path.write_text(FILE.format("assert isinstance(config, ConfigDict)"))
    words = ["search", *inputs.words, "--dry_run", f"--config={path}"]
    assert isinstance(default.get_config(), ConfigDict)
    attack.works(*words)
