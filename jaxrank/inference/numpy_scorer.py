"""Scores photos with a jaxrank model in pure NumPy; `python THIS_FILE MODELFOLDER` tests it.

model = load("MODELFOLDER")
scores = score(model, rows)  # rows [photos, columns]: the model's blocks side by side
"""

import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

_TYPES: dict[str, Any] = {"F32": np.dtype("<f4"), "F64": np.dtype("<f8")}
_ACTIVATIONS: dict[str, Any] = {
    "relu": lambda h: np.maximum(h, 0),
    "gelu": lambda h: h * (1 + np.vectorize(math.erf, [float])(h / math.sqrt(2))) / 2,
    "tanh": np.tanh,
}


def read_tensors(data: bytes) -> dict[str, np.ndarray]:
    """Reads the arrays of a safetensors file: 8 bytes of length, a header in JSON, the numbers."""
    end = 8 + int.from_bytes(data[:8], "little")
    if not 8 < end <= len(data):
        raise ValueError("the header of the weights is cut")
    header, numbers, place, tensors = json.loads(data[8:end]), data[end:], 0, {}
    header.pop("__metadata__", None)
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        dtype, shape, (start, stop) = _TYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
        if not all(type(size) is int and size >= 0 for size in shape) or start != place:
            raise ValueError(f"'{name}' is not where it should be")
        if stop - start != dtype.itemsize * math.prod(shape) or stop > len(numbers):
            raise ValueError(f"'{name}' does not have its size")
        tensors[name] = np.frombuffer(numbers[start:stop], dtype).reshape(shape)
        place = stop
    if place != len(numbers):
        raise ValueError("trailing bytes after the last array")
    return tensors


def load(folder: Path | str) -> dict[str, Any]:
    """Loads a model folder: `model.json`, with the checked arrays under the key `tensors`."""
    model = json.loads((Path(folder) / "model.json").read_text(encoding="utf-8"))
    data = (Path(folder) / "model.safetensors").read_bytes()
    if model["format"] != 6 or hashlib.sha256(data).hexdigest() != model["weights_sha256"]:
        raise ValueError("another format, or weights that do not match model.json")
    model["tensors"], a = read_tensors(data), model["architecture"]
    columns, widths = a["normal_score_columns"], [a["inputs"], *a["hidden_dims"], 1]
    shapes = {f"kernel_{i}": [widths[i + 1], widths[i]] for i in range(len(widths) - 1)}
    shapes |= {f"bias_{i}": [width] for i, width in enumerate(a["hidden_dims"])}
    shapes |= {"mean": widths[:1], "inv_std": widths[:1]}
    if columns:
        shapes |= {name: [len(columns), 256] for name in ("knots", "normal_scores")}
    if not 0 < a["members"] * len(shapes) <= len(model["tensors"]):
        raise ValueError("there are not as many arrays as the members have")
    expected = [(f"member_{k}/{n}", s) for k in range(a["members"]) for n, s in shapes.items()]
    expected += [(f"member_{n}", [a["members"]]) for n in ("mean", "deviation")]
    for name, shape in [*expected, ("mean", [1]), ("deviation", [1])]:
        array = model["tensors"].get(name)
        if array is None or list(array.shape) != shape or not np.isfinite(array).all():
            raise ValueError(f"'{name}' is missing, damaged or of another shape")
    if sum(len(block["columns"]) for block in model["blocks"]) != a["inputs"]:
        raise ValueError("the blocks do not have the columns of the architecture")
    return model


def score(model: dict[str, Any], rows: Any) -> np.ndarray:
    """Returns scores [N] of rows [N, D]: the raw columns of the model's blocks, side by side."""
    a, t, x, start = model["architecture"], model["tensors"], np.array(rows, np.float32), 0
    if x.ndim != 2 or x.shape[1] != a["inputs"] or not np.isfinite(x).all():
        raise ValueError(f"rows must be finite numbers [photos, {a['inputs']}]")
    for block in model["blocks"]:
        part, start = x[:, start : start + len(block["columns"])], start + len(block["columns"])
        if block["name"] in a["l2_blocks"]:
            length = np.linalg.norm(part, axis=1, keepdims=True)
            part[:] = np.divide(part, length, out=np.zeros_like(part), where=length > 0)
    total = np.zeros(len(x))
    for k in range(a["members"]):
        m, z = {n.split("/")[1]: t[n] for n in t if n.startswith(f"member_{k}/")}, x.copy()
        for j, c in enumerate(a["normal_score_columns"]):
            z[:, c] = np.interp(x[:, c], m["knots"][j], m["normal_scores"][j])
        h = ((z - m["mean"]) * m["inv_std"]).astype(np.float64)
        if a["layernorm"]:
            h = (h - h.mean(1, keepdims=True)) / np.sqrt(h.var(1, keepdims=True) + 1e-5)
        for i in range(len(a["hidden_dims"])):
            h = _ACTIVATIONS[a["activation"]](h @ m[f"kernel_{i}"].T + m[f"bias_{i}"])
        s = h @ m[f"kernel_{len(a['hidden_dims'])}"][0]
        total += (s - t["member_mean"][k]) / t["member_deviation"][k]
    return ((total / a["members"] - t["mean"]) / t["deviation"]).astype(np.float32)


if __name__ == "__main__":
    with np.load(Path(sys.argv[1]) / "test_vectors.npz", allow_pickle=False) as vectors:
        difference = np.abs(score(load(sys.argv[1]), vectors["inputs"]) - vectors["scores"]).max()
    print(f"largest difference to the saved scores: {difference:.2g}")
