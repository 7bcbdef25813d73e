"""Registry of the blocks that can be extracted from photos: their options and extractors.

Imports nothing heavy, because the command line defines its flags from EXTRACTORS.
"""

import importlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

# Version of how photos are decoded; another version makes all rows again.
_DECODING_VERSION = 1


class BlockOption(NamedTuple):
    """Option of a block, and flag of the command line.

    Attributes:
      name: name of the option and of the flag.
      default: default value; None for no value.
      help: help text of the flag.
      choices: allowed values; empty for any text.
      names_weights: whether the value is a file of weights, `none`, or the name of weights to
        fetch.
    """

    name: str
    default: str | None
    help: str
    choices: tuple[str, ...] = ()
    names_weights: bool = False


class BlockKind(NamedTuple):
    """Kind of block: the module whose `make_extractor(options)` builds it, and its options."""

    module: str
    options: tuple[BlockOption, ...]


# A new block is a module and a row here. A photo's vector has the blocks in the store's order.
EXTRACTORS: dict[str, BlockKind] = {
    "clip": BlockKind(
        "clip",
        (
            BlockOption("clip_model", "ViT-B-32", "a model of open_clip"),
            BlockOption(
                "clip_pretrained",
                "laion2b_s34b_b79k",
                "weights: a tag of open_clip, a file, or none",
                names_weights=True,
            ),
        ),
    ),
    "cnn": BlockKind(
        "cnn",
        (
            BlockOption("cnn_model", "resnet50", "a model of timm"),
            BlockOption(
                "cnn_layer",
                None,
                "name of the layer in timm (default: the last one of stride 16)",
            ),
            BlockOption(
                "cnn_weights",
                "pretrained",
                "pretrained (timm's), a file in timm's form, or none",
                names_weights=True,
            ),
        ),
    ),
    "iqa": BlockKind(
        "iqa",
        (
            BlockOption(
                "iqa",
                "default",
                "which image-quality numbers; classic are clipped as in older work",
                choices=("default", "classic", "extended"),
            ),
        ),
    ),
}


class Options(NamedTuple):
    """Blocks to extract, and their options.

    Attributes:
      blocks: names of the blocks.
      device: device of the networks, `cpu` or `cuda`.
      values: options of the blocks, by name; missing options have their defaults.
    """

    blocks: Sequence[str] = tuple(EXTRACTORS)
    device: str = "cpu"
    values: Mapping[str, str | None] = {}

    def value(self, name: str) -> Any:
        """Value of a block's option."""
        defaults = {o.name: o.default for kind in EXTRACTORS.values() for o in kind.options}
        return self.values.get(name, defaults[name])

    def weights_to_fetch(self) -> list[str]:
        """Weights that are neither a file nor random, each with its model."""
        named = [
            (block, self.value(option.name))
            for block in self.blocks
            for option in EXTRACTORS[block].options
            if option.names_weights
        ]
        return [
            f"{weights} of {self.value(f'{block}_model')}"
            for block, weights in named
            if weights != "none" and not os.path.isfile(weights)
        ]

    def of_block(self, block: str) -> dict[str, str]:
        """Options of one block, by flag; a file of weights is given by name, without its folder."""
        found = {} if self.device == "cpu" else {"device": self.device}
        for o in EXTRACTORS[block].options:
            value = self.value(o.name)
            if value is not None:
                is_file = o.names_weights and os.path.isfile(value)
                found[o.name] = os.path.basename(value) if is_file else value
        return found


class Extractor(NamedTuple):
    """Extractor of one block.

    Attributes:
      columns: names of the block's columns.
      recipe: everything that determines the block's rows, as JSON.
      source: the recipe in a few words.
      caveat: caveat for every result of the block, or empty.
      view: function from a decoded photo to the input of `encode`; runs in a worker process.
      encode: function from views [B, ...] to float32 [B, columns].
      batch: number of views per call of `encode`.
      options: values of the flags that select the recipe, by flag.
    """

    columns: Sequence[str]
    recipe: Mapping[str, Any]
    source: str
    caveat: str
    view: "Callable[[Image.Image], np.ndarray]"
    encode: "Callable[[np.ndarray], np.ndarray]"
    batch: int
    options: Mapping[str, str] = {}


def make_extractors(options: Options) -> dict[str, Extractor]:
    """Builds the extractors of the chosen blocks, by block, and loads their networks.

    Raises:
      UserError: a network, its weights or its device is not available.
    """
    from jaxrank.data.feature_store import block_order
    from jaxrank.extraction.decoding import SHORT_SIDE

    decoding = {"version": _DECODING_VERSION, "short_side": SHORT_SIDE}
    extractors = {}
    for block in block_order(options.blocks):
        module = importlib.import_module(f"jaxrank.extraction.{EXTRACTORS[block].module}")
        extractor: Extractor = module.make_extractor(options)
        recipe = dict(extractor.recipe) | {"decoding": decoding}
        # The recipe as a manifest reads it back, with lists for tuples.
        extractors[block] = extractor._replace(
            recipe=json.loads(json.dumps(recipe)), options=options.of_block(block)
        )
    return extractors
