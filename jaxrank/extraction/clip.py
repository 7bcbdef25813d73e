"""Block `clip`: image tower of a CLIP model (Radford et al. 2021), from open_clip."""

import os
import warnings
from typing import Any

import numpy as np

from jaxrank.errors import UserError, did_you_mean
from jaxrank.extraction import torch_networks
from jaxrank.extraction.extractors import Extractor, Options
from jaxrank.extraction.preprocessing import Fit, Preprocessing, checked
from jaxrank.extraction.torch_networks import NO_WEIGHTS, RANDOM_WEIGHTS, Network

_FITS: dict[str, Fit] = {"shortest": "crop", "longest": "pad", "squash": "stretch"}


def make_extractor(options: Options) -> Extractor:
    torch_networks.check_device(options.device)
    network = make_network(
        options.value("clip_model"), options.value("clip_pretrained"), options.device
    )
    return torch_networks.extractor_of(network, options.device)


def make_network(model_name: str, weights: str, device: str) -> Network:
    """Builds the image tower; its vectors have length 1.

    Args:
      model_name: name of a model in open_clip, such as ViT-B-32.
      weights: tag of open_clip, such as laion2b_s34b_b79k, or path of a file, or `none`.
      device: device of the network, `cpu` or `cuda`.

    Raises:
      UserError: the model is unknown, or its weights are not available.
    """
    torch, open_clip = torch_networks.import_libraries("torch", "open_clip")
    if model_name not in open_clip.list_models():
        raise UserError(
            f"--clip_model={model_name}: open_clip has no such model."
            f"{did_you_mean(model_name, open_clip.list_models())[:200]}"
        )
    model = _load(open_clip, model_name, weights)
    tower = model.visual
    preprocessing = checked(_preprocessing(model), model_name)
    recipe = torch_networks.recipe_of(model_name, tower, preprocessing, device)
    drawn = weights == NO_WEIGHTS

    def forward(pixels: Any) -> Any:
        found = tower(pixels)
        pooled = found[0] if isinstance(found, tuple) else found  # CoCa also returns its tokens
        return torch.nn.functional.normalize(pooled.float(), dim=-1)

    encode = torch_networks.make_encoder(tower, forward, preprocessing, device)
    blank = np.zeros((1, preprocessing.height, preprocessing.width, 3), np.uint8)
    width = encode(blank).shape[1]
    return Network(
        [f"clip_{i}" for i in range(width)],
        preprocessing,
        recipe,
        f"{model_name}, {RANDOM_WEIGHTS if drawn else os.path.basename(weights)}",
        RANDOM_WEIGHTS if drawn else "",
        encode,
    )


def _load(open_clip: Any, model_name: str, weights: str) -> Any:
    tags = open_clip.list_pretrained_tags_by_model(model_name)
    if weights not in (NO_WEIGHTS, *tags) and not os.path.isfile(weights):
        if os.sep not in weights and "." not in weights:  # not a file's name
            raise UserError(
                f"--clip_pretrained={weights}: neither a file nor weights of '{model_name}'."
                f"{did_you_mean(weights, [*tags, NO_WEIGHTS])}"
            )
        torch_networks.weights_file("clip_pretrained", weights)
    torch_networks.seeded()
    with torch_networks.quiet():
        # open_clip warns if a tag was trained with another GELU than the model's configuration has.
        warnings.filterwarnings("error", message="QuickGELU mismatch")
        try:
            return open_clip.create_model(
                model_name,
                pretrained=None if weights == NO_WEIGHTS else weights,
                pretrained_text=False,
                device="cpu",
            )
        except UserWarning:
            raise UserError(
                f"--clip_pretrained={weights} was trained with another activation; use "
                f"--clip_model={model_name}-quickgelu"
            ) from None
        except Exception as error:  # hub, files and unfitting tensors raise many kinds of error
            remote = open_clip.get_pretrained_cfg(model_name, weights)
            raise torch_networks.cant_load(
                "clip_pretrained", model_name, weights, remote, error
            ) from None


def _preprocessing(model: Any) -> Preprocessing:
    from open_clip.transform import PreprocessCfg

    given = PreprocessCfg(**model.visual.preprocess_cfg)
    _, height, width = given.input_size
    return Preprocessing(
        height,
        width,
        _FITS[given.resize_mode],
        1.0,
        given.interpolation,
        tuple(given.mean),
        tuple(given.std),
        given.fill_color,
    )
