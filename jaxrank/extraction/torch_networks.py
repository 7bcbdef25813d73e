"""PyTorch networks: imported only when needed, with weights that are identified by hash.

Only this module and its neighbours `clip` and `cnn` import PyTorch.
"""

import hashlib
import importlib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from jaxrank.errors import UserError
from jaxrank.extraction.extractors import Extractor
from jaxrank.extraction.preprocessing import Preprocessing, network_input

INSTALL = "pip install torch torchvision open_clip_torch timm"
# Value of an option of weights, in place of a file or a tag, for random weights.
NO_WEIGHTS = "none"
RANDOM_WEIGHTS = "random weights"
# Seed of random weights, which are the same in every run.
_SEED = 0
BATCH_SIZES = {"cpu": 16, "cuda": 128}
# Libraries of declared operators, which exist as long as their library does.
_declared: list[Any] = []


class Network(NamedTuple):
    """Network that makes a block.

    Attributes:
      columns: names of the block's columns.
      preprocessing: preprocessing of the network's input.
      recipe: everything that determines the network's vectors, as JSON; it identifies rows.
      source: the recipe in a few words.
      caveat: caveat for every result of the block, or empty.
      encode: function from uint8 [B, height, width, 3] to float32 [B, columns].
    """

    columns: list[str]
    preprocessing: Preprocessing
    recipe: dict[str, Any]
    source: str
    caveat: str
    encode: Callable[[np.ndarray], np.ndarray]


def extractor_of(network: Network, device: str) -> Extractor:
    return Extractor(
        network.columns,
        network.recipe,
        network.source,
        network.caveat,
        partial(network_input, p=network.preprocessing),
        network.encode,
        BATCH_SIZES[device],
    )


def import_libraries(*names: str) -> list[ModuleType]:
    """Imports modules such as torch and timm; raises a UserError that names what to install."""
    try:
        import torch  # noqa: F401, must come first: others fail in confusing ways without it

        _import_torchvision()
        return [importlib.import_module(name) for name in names]
    except (ImportError, OSError) as error:  # OSError: a shared library is missing
        missing = getattr(error, "name", None) or names[0]
        raise UserError(
            f"the blocks clip and cnn need PyTorch, open_clip and timm ('{missing}' is missing): "
            f"{INSTALL}; --blocks=iqa works without"
        ) from None


def _import_torchvision() -> None:
    """Imports torchvision, even if its compiled part does not fit the installed PyTorch.

    Some package indexes pair a CPU build of PyTorch with a torchvision built for CUDA. Only
    torchvision's Python part is needed here. It then fails only because two operators are not
    declared.
    """
    import torch

    try:
        import torchvision  # noqa: F401
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for operator in ("nms", "qnms"):
            library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _declared.append(library)
        importlib.import_module("torchvision")


def check_device(device: str) -> None:
    (torch,) = import_libraries("torch")
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device=cuda: PyTorch sees no CUDA device here; use --device=cpu")


@contextmanager
def quiet() -> Iterator[None]:
    """Silences log lines and warnings of libraries; important ones are raised as errors."""
    before = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable()
        try:
            yield
        finally:
            logging.disable(before)


def seeded() -> None:
    """Seeds the random weights of the next network, which are then the same in every run."""
    (torch,) = import_libraries("torch")
    torch.manual_seed(_SEED)


def weights_file(flag: str, path: str) -> None:
    """Raises UserError if a local file of weights does not exist."""
    if not os.path.isfile(path):
        raise UserError(f"--{flag}={path}: there is no such file of weights")


def cant_load(
    flag: str, model: str, weights: str, remote: Mapping[str, Any], error: Exception
) -> UserError:
    """Returns the error for weights that could not be fetched, or do not fit the model.

    Args:
      flag: name of the flag of the weights.
      model: name of the model.
      weights: value of the flag.
      remote: remote source of the weights, as open_clip and timm describe it.
      error: error that was raised.
    """
    why = " ".join(str(error).split()) or type(error).__name__
    if os.path.isfile(weights):
        return UserError(f"--{flag}={weights}: not weights of '{model}' ({why})")
    places = (remote.get(key) for key in ("hf_hub", "hf_hub_id", "url"))
    place = next(filter(None, places), "no known place")
    return UserError(
        f"the weights '{weights}' of '{model}' ({place}) are not on this machine and could not be "
        f"fetched ({why}); give a local file by --{flag}=FILE, "
        f"--{flag}={NO_WEIGHTS} for {RANDOM_WEIGHTS}, or --blocks=iqa, which needs none"
    )


def weights_hash(module: Any) -> str:
    """SHA-256 of a module's parameters and buffers, independent of the file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        values = np.ascontiguousarray(tensor.detach().cpu().numpy())
        digest.update(f"{name} {values.dtype.str} {values.shape}\n".encode())
        digest.update(values.reshape(-1).data)
    return digest.hexdigest()


def make_encoder(
    module: Any,
    forward: Callable[[Any], Any],
    preprocessing: Preprocessing,
    device: str,
) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function that applies `forward` to batches of photos.

    It runs without gradients, and in half precision on CUDA.
    """
    (torch,) = import_libraries("torch")
    dtype = torch.float16 if device == "cuda" else torch.float32
    module.eval().requires_grad_(False).to(device, dtype)
    mean, deviation = (
        torch.tensor(values, device=device).reshape(1, 3, 1, 1)
        for values in (preprocessing.mean, preprocessing.deviation)
    )

    def encode(pixels_BHWC: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            pixels = torch.tensor(np.ascontiguousarray(pixels_BHWC), device=device).permute(
                0, 3, 1, 2
            )
            scaled = (pixels.float() / 255 - mean) / deviation
            return forward(scaled.to(dtype)).float().cpu().numpy()

    return encode


def recipe_of(
    model: str, module: Any, preprocessing: Preprocessing, device: str, **more: Any
) -> dict[str, Any]:
    """Recipe of a network: everything that determines its vectors."""
    return {
        "model": model,
        **more,
        "weights_sha256": weights_hash(module),
        "preprocessing": preprocessing._asdict(),
        "precision": "float16" if device == "cuda" else "float32",
    }


def without(names: Mapping[str, Any], prefixes: tuple[str, ...]) -> dict[str, Any]:
    """Entries of a state dict, without the entries of the modules in `prefixes`."""
    return {
        name: value
        for name, value in names.items()
        if not any(name.startswith(f"{prefix}.") for prefix in prefixes)
    }
