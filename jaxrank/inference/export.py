"""Export of saved models to programs without jaxrank."""

import inspect
import io
import os
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxrank.errors import UserError
from jaxrank.inference import numpy_scorer
from jaxrank.inference.saved_model import TEST_VECTORS, load_model, model_folder
from jaxrank.io import atomic, reading


class Exported(NamedTuple):
    """Result of an export.

    Attributes:
      path: path of the exported file.
      model: folder of the model.
      num_vectors: number of test vectors that the file was tested on.
      difference: largest absolute difference to jaxrank's own scores of the test vectors.
    """

    path: Path
    model: Path
    num_vectors: int
    difference: float


def export_numpy(model: Path | str, out: Path | str | None = None) -> Exported:
    """Writes a Python file that scores with NumPy alone, tested on the model's test vectors.

    Args:
      model: folder of a model, or of a search, whose final model is exported.
      out: path of the new file; by default MODEL_scorer.py in the current folder, where MODEL is
        the name of the model's folder.

    Raises:
      UserError: there is no such model, the file can't be written, or a different file exists
        under its name.
    """
    folder = model_folder(model)
    loaded = load_model(folder)
    inputs_ND = _test_inputs(folder, sum(map(len, loaded.block_columns.values())))
    found_N = numpy_scorer.score(numpy_scorer.load(folder), inputs_ND)
    difference = float(np.abs(found_N - loaded.score_rows(inputs_ND)).max())
    path = Path(f"{folder.resolve().name}_scorer.py" if out is None else out)
    text = inspect.getsource(numpy_scorer)
    with atomic.written_to(path.parent):
        if os.path.lexists(path) and (path.is_symlink() or not _is_same(path, text)):
            if out is None:
                raise UserError(f"{path}: is there already; name a new file with --out")
            raise UserError(f"--out={path}: is there already; name a new file")
        atomic.write_text(path, text)
    return Exported(path, folder, len(inputs_ND), difference)


def _is_same(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode()


def _test_inputs(folder: Path, input_dim: int) -> np.ndarray:
    try:
        data = io.BytesIO(reading.read_whole(folder / TEST_VECTORS, reading.ARRAY))
        with zipfile.ZipFile(data) as archive:
            if any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist()):
                raise ValueError("a compressed array may be of any size")
        with np.load(data, allow_pickle=False) as vectors:
            inputs_ND = np.asarray(vectors["inputs"], np.float32)
        if not len(inputs_ND) or inputs_ND.shape[1:] != (input_dim,):
            raise ValueError("they are not of this model")
        return inputs_ND
    except Exception as error:  # a damaged archive raises many types
        raise UserError(
            f"{folder / TEST_VECTORS}: can't be read ({type(error).__name__}); train the model "
            "again"
        ) from None
