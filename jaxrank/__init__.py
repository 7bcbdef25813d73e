"""jaxrank learns which photo of a series people prefer, and says how sure that is.

The public names are loaded when they are first used: importing JAX takes more than a second, and
`jaxrank --help` should not wait for it.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxrank.applying import evaluate_model, rank_photos
    from jaxrank.audit.inputs import audit_files
    from jaxrank.block_files import read_block_csv, read_block_npy, read_block_safetensors
    from jaxrank.calibration import read_calibration
    from jaxrank.catalogues import read_catalogue
    from jaxrank.checkpoints import load_model
    from jaxrank.conductor import search
    from jaxrank.errors import UserError
    from jaxrank.features import Block, open_store, write_block
    from jaxrank.pairs import read_pairs
    from jaxrank.sampling import BalancedSeriesBatchSampler, SeriesAwareBatchSampler
    from jaxrank.simulation import simulate

__version__ = "0.1.0"

_HOMES = {
    "BalancedSeriesBatchSampler": "sampling",
    "SeriesAwareBatchSampler": "sampling",
    "Block": "features",
    "UserError": "errors",
    "audit_files": "audit.inputs",
    "evaluate_model": "applying",
    "rank_photos": "applying",
    "load_model": "checkpoints",
    "open_store": "features",
    "read_block_csv": "block_files",
    "read_block_npy": "block_files",
    "read_block_safetensors": "block_files",
    "read_calibration": "calibration",
    "read_catalogue": "catalogues",
    "read_pairs": "pairs",
    "search": "conductor",
    "simulate": "simulation",
    "write_block": "features",
}

__all__ = [
    "BalancedSeriesBatchSampler",
    "Block",
    "SeriesAwareBatchSampler",
    "UserError",
    "audit_files",
    "evaluate_model",
    "load_model",
    "open_store",
    "rank_photos",
    "read_block_csv",
    "read_block_npy",
    "read_block_safetensors",
    "read_calibration",
    "read_catalogue",
    "read_pairs",
    "search",
    "simulate",
    "write_block",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'jaxrank' has no attribute '{name}'")
    return getattr(importlib.import_module(f"jaxrank.{_HOMES[name]}"), name)
