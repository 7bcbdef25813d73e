"""Speed of jaxrank on a GPU, compared with PyTorch and the GPU's limits: `make bench-gpu`.

Exits with a message of one line if JAX has no GPU, and with an error if a part failed. Nothing else
should use the GPU meanwhile. What it prints is also in build/gpu.txt. Parts, in order:

  tests           tests of training, on the GPU, at `highest`
  epoch, shapes   parts of benchmarks/speed.py, with PyTorch's tensors on the GPU (loop,
                  torch.compile, torch.func)
  search          the full catalogue x 5 folds x 20 seeds x 30 epochs, at each precision
  profile         the rates of this GPU, as `jaxrank profile` writes them
  extraction      photos per second of `extract --device=cuda` and a plain loop on the same GPU
"""

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import speed

from jaxrank.models import PRECISIONS

REPORT = Path(__file__).parents[1] / "build" / "gpu.txt"
SEEDS, FOLDS, EPOCHS = 20, 5, 30
ON_GPU = {
    "b  PyTorch, tensors on the GPU": ["torch", "memory", "--device=cuda"],
    "b' the same, fused AdamW": ["torch", "memory", "--device=cuda", "--fused"],
    'b" the same, torch.compile': ["torch", "memory", "--device=cuda", "--fused", "--compile"],
    "e  jaxrank": ["jaxrank", "together"],
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    found = speed.child("platform")["platform"]
    if found != "gpu":
        print(f"make bench-gpu: JAX has no GPU here, only {found}; see docs/precision.md",
              file=sys.stderr)  # fmt: skip
        return 2
    REPORT.parent.mkdir(exist_ok=True)
    with (
        REPORT.open("w", encoding="utf-8") as file,
        contextlib.redirect_stdout(Both(file)),
        tempfile.TemporaryDirectory() as folder,
    ):
        return parts(Path(folder), given.rounds)


class Both(io.TextIOBase):
    """Writes to the screen and to a file."""

    def __init__(self, file: io.TextIOBase):
        self._streams = [sys.stdout, file]

    def write(self, text: str) -> int:
        for stream in self._streams:
            stream.write(text)
            stream.flush()
        return len(text)


def parts(folder: Path, rounds: int) -> int:
    """Runs all parts; returns the exit status."""
    print(speed.child("platform")["machine"])
    here = Path(__file__)
    tests = here.parents[1] / "tests" / "training"
    failed = printed([sys.executable, "-m", "pytest", "-q", "-n0", str(tests)])
    speed.PEERS = ON_GPU
    speed.epoch(folder, rounds)
    speed.shapes(folder, rounds, ["--device=cuda"])
    searches(folder)
    profile(folder / "profile.json")
    extraction = str(here.with_name("extract_speed.py"))
    return printed([sys.executable, extraction, "--device=cuda"]) or failed


def printed(command: list[str]) -> int:
    """Runs a command, prints its output line by line and returns its exit status."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="")
    return process.returncode


def searches(folder: Path) -> None:
    print(f"\n'search --mode=full --folds={FOLDS} --num_seeds={SEEDS}' of {EPOCHS} epochs")
    for precision in PRECISIONS:
        for cache in ("empty", "full"):
            seconds = one_search(folder / f"{precision}_{cache}", folder / "cache", precision)
            print(f"  {precision:9} cache {cache:5} {seconds:7.1f} s")


def one_search(workdir: Path, cache: Path, precision: str) -> float:
    begun = time.perf_counter()
    options = [f"--folds={FOLDS}", f"--num_seeds={SEEDS}", f"--workdir={workdir}", "--quiet"]
    config = {"max_epochs": EPOCHS, "patience": EPOCHS, "precision": precision}
    options += [f"--config.{key}={value}" for key, value in config.items()]
    run_jaxrank(["search", "--mode=full", *options], XDG_CACHE_HOME=str(cache))
    return time.perf_counter() - begun


def profile(path: Path) -> None:
    run_jaxrank(["profile", f"--device_profile={path}", "--quiet"])
    print("\n'profile':", json.dumps(json.loads(path.read_text(encoding="utf-8"))))


def run_jaxrank(words: list[str], **environment: str) -> None:
    command = [sys.executable, "-m", "jaxrank", *words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | environment)


if __name__ == "__main__":
    sys.exit(main())
