"""Block `cnn`: spatial means of a convolutional network's inner features, from timm."""

import os
from typing import Any

from jaxrank.errors import UserError, did_you_mean
from jaxrank.extraction import torch_networks
from jaxrank.extraction.extractors import Extractor, Options
from jaxrank.extraction.preprocessing import Fit, Preprocessing, checked
from jaxrank.extraction.torch_networks import NO_WEIGHTS, RANDOM_WEIGHTS, Network

# Value of `cnn_weights` for timm's own weights of a model.
PRETRAINED = "pretrained"
# The default layer is the last one of at most this stride: ResNet's third stage, C4 of Lin et al.
# (2017).
_STRIDE = 16
_FITS: dict[str, Fit] = {"center": "crop", "border": "pad", "squash": "stretch"}


def make_extractor(options: Options) -> Extractor:
    torch_networks.check_device(options.device)
    network = make_network(
        options.value("cnn_model"),
        options.value("cnn_layer"),
        options.value("cnn_weights"),
        options.device,
    )
    return torch_networks.extractor_of(network, options.device)


def make_network(model_name: str, layer: str | None, weights: str, device: str) -> Network:
    """Builds the network; its features are a layer's, averaged over positions.

    Args:
      model_name: name of a model in timm, such as resnet50.
      layer: name of the layer in timm, such as layer3 of resnet50; by default the last layer of
        stride 16 or less.
      weights: `pretrained`, path of a file in timm's form, or `none`.
      device: device of the network, `cpu` or `cuda`.

    Raises:
      UserError: the model or layer is unknown, or the weights are not available.
    """
    (timm,) = torch_networks.import_libraries("timm")
    architecture = model_name.split(".")[0]
    if not timm.is_model(architecture):
        raise UserError(
            f"--cnn_model={model_name}: timm has no such model."
            f"{did_you_mean(architecture, timm.list_models())[:200]}"
        )
    model = _load(timm, model_name, weights)
    index, layer, width = _find_layer(model, model_name, layer)
    preprocessing = checked(_preprocessing(timm, model), model_name)
    recipe = torch_networks.recipe_of(model_name, model, preprocessing, device, layer=layer)
    drawn = weights == NO_WEIGHTS

    def forward(pixels: Any) -> Any:
        (maps_BCHW,) = model.forward_intermediates(
            pixels, indices=[index], stop_early=True, intermediates_only=True, output_fmt="NCHW"
        )
        return maps_BCHW.float().mean((2, 3))

    return Network(
        [f"cnn_{i}" for i in range(width)],
        preprocessing,
        recipe,
        f"{model_name}, {RANDOM_WEIGHTS if drawn else os.path.basename(weights)}",
        RANDOM_WEIGHTS if drawn else "",
        torch_networks.make_encoder(model, forward, preprocessing, device),
    )


def _load(timm: Any, model_name: str, weights: str) -> Any:
    torch_networks.seeded()
    if weights not in (NO_WEIGHTS, PRETRAINED):
        torch_networks.weights_file("cnn_weights", weights)
    try:
        with torch_networks.quiet():
            model = timm.create_model(model_name, pretrained=weights == PRETRAINED)
            if weights not in (NO_WEIGHTS, PRETRAINED):
                _load_file(timm, model, weights)
    except Exception as error:  # hub, files and unfitting tensors raise many kinds of error
        known = timm.get_pretrained_cfg(model_name)
        remote = {} if known is None else known.to_dict()
        raise torch_networks.cant_load("cnn_weights", model_name, weights, remote, error) from None
    return model


def _load_file(timm: Any, model: Any, path: str) -> None:
    """Loads a file of weights; only weights of the classifier, which is unused, may be missing."""
    classifier = model.pretrained_cfg.get("classifier") or ()
    heads = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    state = torch_networks.without(timm.models.load_state_dict(path, weights_only=True), heads)
    result = model.load_state_dict(state, strict=False)
    missing = list(torch_networks.without(dict.fromkeys(result.missing_keys), heads))
    for names, what in ((missing, "are missing"), (result.unexpected_keys, "are unknown")):
        if names:
            raise ValueError(f"{len(names):,} tensors {what}, such as '{names[0]}'")


def _find_layer(model: Any, model_name: str, layer: str | None) -> tuple[int, str, int]:
    """Index, name and width of a layer, among the layers whose features timm returns."""
    stages = getattr(model, "feature_info", None)
    if not stages or not hasattr(model, "forward_intermediates"):
        raise UserError(f"--cnn_model={model_name}: timm can't give its inner features")
    names = [stage["module"] for stage in stages]
    if layer is None:
        fitting = [name for name, s in zip(names, stages, strict=True) if s["reduction"] <= _STRIDE]
        layer = fitting[-1] if fitting else names[-1]
    if layer not in names:
        raise UserError(
            f"--cnn_layer={layer}: '{model_name}' has no such layer; it has {', '.join(names)}"[
                :300
            ]
        )
    index = names.index(layer)
    return index, layer, int(stages[index]["num_chs"])


def _preprocessing(timm: Any, model: Any) -> Preprocessing:
    given = timm.data.resolve_model_data_config(model)
    _, height, width = given["input_size"]
    fit = _FITS[given["crop_mode"]]
    return Preprocessing(
        height,
        width,
        fit,
        given["crop_pct"] if fit == "crop" else 1.0,
        given["interpolation"],
        tuple(given["mean"]),
        tuple(given["std"]),
    )
