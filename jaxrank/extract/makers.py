"""How each block is made: what a decoding process makes of a photo, and what becomes of that."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from jaxrank.data import feature_store
from jaxrank.extract import iqa
from jaxrank.extract.decoding import SHORT_SIDE
from jaxrank.extract.iqa import Kind
from jaxrank.extract.preprocessing import network_input

BLOCKS = ("clip", "cnn", "iqa")
# How decoding works; a change makes all rows new.
_DECODING = {"version": 1, "short_side": SHORT_SIDE}


class Options(NamedTuple):
    """What blocks are made of; see the README, "From photos to features"."""

    blocks: Sequence[str] = BLOCKS
    clip_model: str = "ViT-B-32"
    clip_pretrained: str = "laion2b_s34b_b79k"
    cnn_model: str = "resnet50"
    cnn_layer: str | None = None
    cnn_weights: str = "pretrained"
    iqa: Kind = "default"
    device: str = "cpu"


class Maker(NamedTuple):
    """How a block is made.

    Attributes:
      columns: names of its numbers.
      recipe: all that decides its rows, as JSON.
      source: the same in a few words.
      caveat: what a reader of any result must know, or empty.
      view: what is made of a decoded photo, in a process of its own.
      encode: views [B, ...] -> float32 [B, columns].
      batch: how many views at once.
    """

    columns: Sequence[str]
    recipe: Mapping[str, Any]
    source: str
    caveat: str
    view: Callable[[Image.Image], np.ndarray]
    encode: Callable[[np.ndarray], np.ndarray]
    batch: int


def make_makers(options: Options) -> dict[str, Maker]:
    """By block, how it is made; networks are loaded.

    Raises:
      UserError: a network, its weights or its device can't be had.
    """
    makers = {}
    for block in feature_store.block_order(options.blocks):
        maker = _iqa_maker(options.iqa) if block == "iqa" else _network_maker(block, options)
        recipe = dict(maker.recipe) | {"decoding": _DECODING}
        # As it reads back from a manifest, with lists for tuples.
        makers[block] = maker._replace(recipe=json.loads(json.dumps(recipe)))
    return makers


def _iqa_maker(kind: Kind) -> Maker:
    source = f"image-quality numbers ({kind}) at {SHORT_SIDE} pixels"
    view = partial(iqa.measure, kind=kind)
    return Maker(
        iqa.COLUMNS[kind], {"numbers": kind, "version": 1}, source, "", view, np.asarray, 64
    )


def _network_maker(block: str, options: Options) -> Maker:
    from jaxrank.extract import clip, cnn, networks

    networks.check_device(options.device)
    if block == "clip":
        network = clip.make_network(options.clip_model, options.clip_pretrained, options.device)
    else:
        network = cnn.make_network(
            options.cnn_model, options.cnn_layer, options.cnn_weights, options.device
        )
    return Maker(
        network.columns,
        network.recipe,
        network.source,
        network.caveat,
        partial(network_input, p=network.preprocessing),
        network.encode,
        networks.BATCH_SIZES[options.device],
    )
