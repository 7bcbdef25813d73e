"""jaxrank learns which photo of a series people prefer, and reports confidence intervals.

The public names are in `__init__.pyi` and are loaded when they are first used: importing JAX
takes more than a second, and `jaxrank --help` should not wait for it.
"""

import warnings

import lazy_loader

from jaxrank._version import __version__ as __version__

__all__: list[str]
_lazy_getattr, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


# Names of version 0.1.
_RENAMED = {
    "audit_files": "audit_data",
    "open_store": "open_feature_store",
    "read_calibration": "read_device_profile",
    "read_pairs": "read_preferences",
}


def __getattr__(name: str) -> object:
    if name in _RENAMED:
        new = _RENAMED[name]
        warnings.warn(
            f"jaxrank.{name} is now jaxrank.{new}; the old name will be removed in the next "
            "release",
            FutureWarning,
            stacklevel=2,
        )
        name = new
    return _lazy_getattr(name)
