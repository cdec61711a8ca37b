"""Tiny random models of the real classes, made once a session."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before anything imports torch: two-thread torch on shared cores is many times slower without it.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# What runs keep for later ones must not be found by the next test session.
os.environ["HF_ASSETS_CACHE"] = tempfile.mkdtemp(prefix="negclip-tests-")

import pytest

import negclip_core  # noqa: F401  (first, for torchvision beside a CPU torch)

if TYPE_CHECKING:
    from negclip_core.clip import Clip
    from negclip_core.training.data import TrainingSet

WIDTH, LAYERS = 64, 2


# The files that take longest, longest first: two processes that share the files end at about the same time.
_LONG = (
    "test_replicas.py",
    "test_documents.py",
    "test_web.py",
    "test_manners.py",
    "test_build.py",
    "test_judge.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: _LONG.index(item.path.name) if item.path.name in _LONG else len(_LONG))


@pytest.fixture(scope="session", autouse=True)
def _remove_what_runs_keep() -> Iterator[None]:
    yield
    shutil.rmtree(os.environ["HF_ASSETS_CACHE"])


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CLIP's tokenizer cut to the drawn world's words."""
    from negclip_core.world.tokenizer import write_tokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return folder


def write_tiny_clip(
    folder: Path, tokenizer_folder: Path, seed: int, width: int = WIDTH, layers: int = LAYERS
) -> Path:
    """A random CLIP as an open_clip folder, 16 x 16 pictures."""
    import torch
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
    from transformers import CLIPTokenizer

    from negclip_core.checkpoints import write_open_clip_folder

    vocabulary = len(CLIPTokenizer.from_pretrained(tokenizer_folder))
    text = {
        "context_length": 77,
        "vocab_size": vocabulary,
        "width": width,
        "heads": width // 32,
        "layers": layers,
    }
    vision = {"image_size": 16, "patch_size": 8, "layers": 1, "width": 64, "head_width": 32}
    config = {"embed_dim": 32, "quick_gelu": True, "vision_cfg": vision, "text_cfg": text}
    torch.manual_seed(seed)
    model = CLIP(32, CLIPVisionCfg(**vision), CLIPTextCfg(**text), quick_gelu=True)
    write_open_clip_folder(
        folder,
        model.state_dict(),
        config,
        preprocess={"mean": [0.5] * 3, "std": [0.5] * 3},
        made_by={"seed": seed},
        tokenizer_folder=tokenizer_folder,
    )
    return folder


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> Path:
    """The vanilla CLIP, whose text tower `pipeline_folder` holds."""
    return write_tiny_clip(tmp_path_factory.mktemp("clip"), tokenizer_folder, seed=1)


@pytest.fixture(scope="session")
def other_clip_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> Path:
    """Another CLIP of the same shape, to swap in."""
    return write_tiny_clip(tmp_path_factory.mktemp("negationclip"), tokenizer_folder, seed=2)


@pytest.fixture(scope="session")
def wide_clip_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> Path:
    """A CLIP whose text tower is too wide for `pipeline_folder`."""
    return write_tiny_clip(tmp_path_factory.mktemp("wide"), tokenizer_folder, seed=3, width=96)


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory, clip_folder: Path) -> Path:
    """A random StableDiffusionPipeline that draws 16 x 16 pictures."""
    from hosts import make_host  # type: ignore[import-not-found]  # pytest puts tests/ on the path

    folder = tmp_path_factory.mktemp("pipeline")
    pipe = make_host("Stable Diffusion 1.x", clip_folder, clip_folder)  # it has no second text encoder
    pipe.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def clipseg_folder(tmp_path_factory: pytest.TempPathFactory, clip_folder: Path) -> Path:
    """A random CLIPSeg that sees 32 x 32 pictures and has the words of `clip_folder`."""
    import torch
    from transformers import (
        CLIPSegConfig,
        CLIPSegForImageSegmentation,
        CLIPSegProcessor,
        CLIPTokenizer,
        ViTImageProcessor,
    )

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clipseg")
    tokenizer = CLIPTokenizer.from_pretrained(clip_folder)
    tower = {
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "hidden_size": WIDTH,
        "intermediate_size": 256,
    }
    words = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": 77,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = CLIPSegConfig(
        text_config=tower | words,
        vision_config=tower | {"image_size": 32, "patch_size": 8},
        projection_dim=32,
        reduce_dim=16,
        extract_layers=[0, 1],
        decoder_num_attention_heads=2,
        decoder_intermediate_size=32,
    )
    CLIPSegForImageSegmentation(config).save_pretrained(folder)
    CLIPSegProcessor(ViTImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def published_sam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random SAM of transformers, saved as the hub's repositories are."""
    import torch
    from transformers import SamConfig, SamModel

    torch.manual_seed(0)
    config = SamConfig(
        vision_config={
            "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 64, "patch_size": 8,
            "window_size": 4, "global_attn_indexes": [1], "mlp_dim": 64, "output_channels": 16, "num_pos_feats": 8,
        },
        prompt_encoder_config={
            "hidden_size": 16, "image_size": 64, "patch_size": 8, "mask_input_channels": 16,
        },
        mask_decoder_config={"hidden_size": 16, "mlp_dim": 32, "iou_head_hidden_dim": 16},
    )  # fmt: skip
    model = SamModel(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp("sam")
    model.save_pretrained(folder)
    return folder


def _annotation(image: int, place: str, thing: str, plural: str) -> dict[str, Any]:
    return {
        "image_id": image,
        "caption": f"a {place}",
        "updated_caption": f"a {place} with no {plural}",
        "absent": [thing],
        "affirmative": f"a {place}",
        "asserted": f"a {place} with {plural}",
    }


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve plain pictures with two negated captions each, and one thing that is there after all."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("corpus")
    annotations, images = [], []
    for number in range(12):
        Image.new("RGB", (16, 16), (20 * number, 90, 250 - 20 * number)).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png"})
        place = ("street", "park", "beach")[number % 3]
        annotations += [_annotation(number, place, "car", "cars"), _annotation(number, place, "dog", "dogs")]
    present = [{**_annotation(3, "street", "tree", "trees"), "negated": "a street with no trees"}]
    document = {"images": images, "annotations": annotations, "present": present}
    (folder / "captions.json").write_text(json.dumps(document), "utf-8")
    return folder


@pytest.fixture
def clip(clip_folder: Path) -> "Clip":
    """The vanilla CLIP, loaded."""
    from negclip_core.clip import load_clip

    return load_clip(clip_folder)


@pytest.fixture
def data(clip: "Clip", corpus: Path, tmp_path: Path) -> "TrainingSet":
    """The corpus as training reads it, with random features for its pictures."""
    import torch

    from negclip_core.training.captions_file import read_captions
    from negclip_core.training.data import TrainingSet
    from negclip_core.training.features import Features
    from negclip_core.training.tables import caption_tables

    captions = caption_tables(read_captions(corpus / "captions.json"), clip.tokenizer, tmp_path / "captions")
    table = torch.nn.functional.normalize(torch.randn(len(captions.images), 32), dim=1)
    features = Features(table, {name: row for row, name in enumerate(captions.images)}, {})
    return TrainingSet.make(captions, features, clip.tokenizer)


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Start a fake endpoint with options of its command line; its address."""
    root = Path(__file__).parents[1]
    with ExitStack() as stack:

        def start(*options: object) -> str:
            words = [sys.executable, str(root / "tests" / "fake_endpoint.py"), *map(str, options)]
            environment = os.environ | {"PYTHONPATH": str(root), "NO_PROXY": "127.0.0.1"}
            process = stack.enter_context(
                subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=root, env=environment)
            )
            stack.callback(process.terminate)
            assert process.stdout is not None
            return process.stdout.readline().strip()

        yield start
