"""The blocks that photos can become: the options of each, and how it is made.

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

# A change of how photos are decoded makes all rows new.
_DECODING_VERSION = 1


class BlockOption(NamedTuple):
    """An option of a block, also a flag of the command line.

    Attributes:
      choices: the values that there are; empty: any text.
      names_weights: its value is a file of weights, `none`, or the name of weights to fetch.
    """

    name: str
    default: str | None
    help: str
    choices: tuple[str, ...] = ()
    names_weights: bool = False


class BlockKind(NamedTuple):
    """A kind of block: the module whose `make_extractor(options)` makes it, and its options."""

    module: str
    options: tuple[BlockOption, ...]


# A new block is a module and a row here; the store's order of blocks is that of a photo's vector.
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
                "its layer, as timm calls it (default: the last one of stride 16)",
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
    """What blocks are made of.

    Attributes:
      device: of the networks, `cpu` or `cuda`.
      values: options of the blocks by name; the others have their defaults.
    """

    blocks: Sequence[str] = tuple(EXTRACTORS)
    device: str = "cpu"
    values: Mapping[str, str | None] = {}

    def value(self, name: str) -> Any:
        """The value of a block's option."""
        defaults = {o.name: o.default for kind in EXTRACTORS.values() for o in kind.options}
        return self.values.get(name, defaults[name])

    def of(self, block: str) -> dict[str, str]:
        """What makes this block, by flag; of a file of weights its name, not where it lies."""
        found = {} if self.device == "cpu" else {"device": self.device}
        for o in EXTRACTORS[block].options:
            value = self.value(o.name)
            if value is not None:
                is_file = o.names_weights and os.path.isfile(value)
                found[o.name] = os.path.basename(value) if is_file else value
        return found


class Extractor(NamedTuple):
    """How a block is made.

    Attributes:
      columns: names of its numbers.
      recipe: all that decides its rows, as JSON.
      source: the same in a few words.
      caveat: what a reader of any result must know, or empty.
      view: what is made of a decoded photo, in a process of its own.
      encode: views [B, ...] -> float32 [B, columns].
      batch: how many views at once.
      options: the flags that ask for the recipe, by name.
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
    """By block, how it is made; networks are loaded.

    Raises:
      UserError: a network, its weights or its device can't be had.
    """
    from jaxrank.data.feature_store import block_order
    from jaxrank.extraction.decoding import SHORT_SIDE

    decoding = {"version": _DECODING_VERSION, "short_side": SHORT_SIDE}
    extractors = {}
    for block in block_order(options.blocks):
        module = importlib.import_module(f"jaxrank.extraction.{EXTRACTORS[block].module}")
        extractor: Extractor = module.make_extractor(options)
        recipe = dict(extractor.recipe) | {"decoding": decoding}
        # As it reads back from a manifest, with lists for tuples.
        extractors[block] = extractor._replace(
            recipe=json.loads(json.dumps(recipe)), options=options.of(block)
        )
    return extractors
