"""One handle on a CLIP: both towers, tokenizer, preprocessing and logit scale, from any source.

The parts are made when they are first asked for, so that a host that needs only the text tower does not wait for
open_clip and the image tower.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from negclip_core.checkpoints import Checkpoint, read_checkpoint
from negclip_core.errors import RequestError, reason_of
from negclip_core.folder_tokenizer import FolderTokenizer
from negclip_core.layouts.shapes import mlp_width
from negclip_core.layouts.transformers import text_config, text_weights
from negclip_core.models import architecture_file, resolve

if TYPE_CHECKING:
    from open_clip.model import CLIP
    from PIL.Image import Image
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

__all__ = ["Clip", "load_clip"]

_CLIP_VOCABULARY = 49408
_IMAGES_AT_ONCE, _TEXTS_AT_ONCE = 64, 256


@dataclass(eq=False)
class Clip:
    """A CLIP on one device. Make one with `load_clip`."""

    name: str
    checkpoint: Checkpoint
    device: torch.device

    @property
    def sha256(self) -> str:
        """Of the file that the weights came from."""
        return self.checkpoint.sha256

    @property
    def config(self) -> dict[str, Any]:
        """open_clip's `model_cfg`; without `vision_cfg` where there is no image tower."""
        return self.checkpoint.config

    @cached_property
    def model(self) -> "CLIP":
        """open_clip's own model, float32, in eval mode; its `visual` is None where there is no image tower.

        Raises RequestError where the checkpoint has no text projection: its texts cannot be compared with images.
        """
        from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

        config, weights = self.config, dict(self.checkpoint.weights)
        if "text_projection" not in weights:
            raise RequestError(
                f"{self.name}: has no text projection, so its texts cannot be compared with images"
            )
        weights.setdefault("logit_scale", torch.tensor(math.log(100.0)))
        vision = config.get("vision_cfg")
        # open_clip's class cannot be made without an image tower: a tiny one is made and taken away.
        stand_in = {"image_size": 8, "patch_size": 8, "layers": 1, "width": 64}
        try:
            model = CLIP(
                config["embed_dim"],
                CLIPVisionCfg(**(vision or stand_in)),
                CLIPTextCfg(**config["text_cfg"]),
                quick_gelu=bool(config.get("quick_gelu")),
            )
            if vision is None:
                model.visual = None
            model.load_state_dict(weights)
        except (ArithmeticError, AssertionError, RuntimeError, TypeError, ValueError) as error:
            lines = " ".join(str(error).split())
            raise RequestError(
                f"{self.name}: the weights do not fit their architecture: {lines[:300]}"
            ) from error
        return model.to(self.device).eval()

    @cached_property
    def tokenizer(self) -> Callable[[list[str]], Tensor]:
        """From n texts to int64 [n, context length]: start, text, end (the highest id), padding; cut to fit.

        Raises RequestError where the vocabulary is not CLIP's own and no tokenizer lies beside the weights.
        """
        context = self.config["text_cfg"]["context_length"]
        vocabulary = self.config["text_cfg"]["vocab_size"]
        if self.checkpoint.tokenizer_folder is not None:
            return FolderTokenizer(self.checkpoint.tokenizer_folder, context, vocabulary)
        if vocabulary != _CLIP_VOCABULARY:
            raise RequestError(
                f"{self.name}: has a vocabulary of {vocabulary}, not CLIP's {_CLIP_VOCABULARY}, and no tokenizer beside "
                "its weights; put vocab.json and merges.txt there"
            )
        from open_clip.tokenizer import SimpleTokenizer

        return SimpleTokenizer(context_length=context)

    @cached_property
    def preprocess(self) -> Callable[["Image"], Tensor]:
        """From a picture to float32 [3, side, side], resized and normalised as the image tower expects."""
        from open_clip.transform import PreprocessCfg, image_transform_v2
        from PIL.Image import new as new_image

        self._need_image_tower()
        known = PreprocessCfg.__dataclass_fields__.keys() - {"size"}
        given = {name: value for name, value in self.checkpoint.preprocess.items() if name in known}
        side = self.config["vision_cfg"]["image_size"]
        try:
            transform: Callable[[Image], Tensor] = image_transform_v2(
                PreprocessCfg(size=side, **given), is_train=False
            )
            # What is wrong with some settings shows when a picture is prepared.
            shape = transform(new_image("RGB", (side, side + 1))).shape
        except (
            ArithmeticError,
            AssertionError,
            AttributeError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            raise RequestError(
                f"{self.name}: its preprocess_cfg prepares no picture ({reason_of(error)})"
            ) from error
        if shape != (3, side, side):
            raise RequestError(
                f"{self.name}: its preprocess_cfg makes {list(shape)} of a picture, expected {[3, side, side]}"
            )
        return transform

    @property
    def logit_scale(self) -> float:
        """What cosines are multiplied with before a softmax."""
        return float(self.model.logit_scale.detach().exp())

    @torch.no_grad()
    def encode_text(self, texts: list[str]) -> Tensor:
        """float32 [n, embed_dim] of unit length."""
        parts = [texts[i : i + _TEXTS_AT_ONCE] for i in range(0, len(texts), _TEXTS_AT_ONCE)]
        rows = [self.model.encode_text(self.tokenizer(part).to(self.device)) for part in parts]
        return F.normalize(torch.cat(rows).float(), dim=-1)

    def encode_image(self, images: list["Image"]) -> Tensor:
        """float32 [n, embed_dim] of unit length. Raises RequestError where there is no image tower."""
        parts = [images[i : i + _IMAGES_AT_ONCE] for i in range(0, len(images), _IMAGES_AT_ONCE)]
        rows = [self.encode_pixels(torch.stack([self.preprocess(image) for image in part])) for part in parts]
        return torch.cat(rows)

    @torch.no_grad()
    def encode_pixels(self, pixels: Tensor) -> Tensor:
        """float32 [n, embed_dim] of unit length, of pictures as `preprocess` gives them, [n, 3, side, side]."""
        self._need_image_tower()
        rows = [self.model.encode_image(part.to(self.device)) for part in pixels.split(_IMAGES_AT_ONCE)]
        return F.normalize(torch.cat(rows).float(), dim=-1)

    def text_encoder(
        self, projection: bool = False, layers: int | None = None
    ) -> "CLIPTextModel | CLIPTextModelWithProjection":
        """The text tower as hosts have it: a new `CLIPTextModel`, or with `projection` a `CLIPTextModelWithProjection`.

        With `layers` it ends after so many blocks and the final norm: Stable Diffusion 2 reads the last block but one.
        Float32, in eval mode, on this CLIP's device; if `model` has been trained since it was loaded, so has this.
        Raises RequestError where the tower is none that transformers has (it reads its padding), or lacks the projection.
        """
        if self.checkpoint.reads_padding:
            raise RequestError(
                f"{self.name}: its text tower reads its padding, as SigLIP's do; no host has such a one"
            )
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

        canonical = self.checkpoint.weights
        if "model" in self.__dict__:
            canonical = {k: v.detach() for k, v in self.model.state_dict().items()}
        if projection and "text_projection" not in canonical:
            raise RequestError(f"{self.name}: has no text projection; load the whole CLIP")
        config = text_config(self.config)
        if layers is not None:
            config["num_hidden_layers"] = layers
            canonical = {k: v for k, v in canonical.items() if not _beyond(k, layers)}
        weights = text_weights(canonical, prefix="text_model." if projection else "")
        kind = CLIPTextModelWithProjection if projection else CLIPTextModel
        # On "meta", so that nothing is initialised only to be overwritten.
        with torch.device("meta"):
            encoder = kind(CLIPTextConfig(**config))
        own = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in weights.items()}
        encoder.load_state_dict(own, assign=True)
        tower = encoder.text_model if projection else encoder
        tower.embeddings.position_ids = torch.arange(self.config["text_cfg"]["context_length"])[None]
        return encoder.to(self.device).eval().requires_grad_(False)

    def _need_image_tower(self) -> None:
        if "vision_cfg" not in self.config:
            raise RequestError(
                f"{self.name}: is a text tower only; load it with a base CLIP to encode images"
            )


def _beyond(name: str, layers: int) -> bool:
    """Whether a canonical tensor belongs to a block of the text tower from number `layers` on."""
    parts = name.split(".")
    return parts[:2] == ["transformer", "resblocks"] and int(parts[2]) >= layers


def load_clip(
    source: str | Path,
    architecture: str | None = None,
    device: str | torch.device = "cpu",
    base: "Clip | None" = None,
) -> Clip:
    """Load a CLIP.

    Args:
        source: a shipped name, a folder, a file, a hub id, or one of open_clip's architectures with a tag of its
            pretrained weights ("ViT-L-14:openai"; the tag may be left out for OpenAI's).
        architecture: open_clip's name for it, for a hub repository of several CLIPs, or to check a file against.
        base: for a checkpoint of the text tower only: the CLIP that gives the image tower and the logit scale.

    Raises:
        RequestError: there is no such model, it is not a CLIP, or it does not fit `architecture` or `base`.
    """
    checkpoint = read_checkpoint(_locate(str(source), architecture), _text_width(architecture))
    if architecture is not None:
        checkpoint = _as_architecture(checkpoint, architecture, str(source))
    if base is not None and "vision_cfg" not in checkpoint.config:
        checkpoint = _on_base(checkpoint, base, str(source))
    return Clip(str(source), checkpoint, torch.device(device))


def _locate(source: str, architecture: str | None) -> Path:
    from negclip_core.hub import fetch, pretrained_repository

    name, _, tag = source.partition(":")
    if not Path(source).exists() and architecture_file(name):
        return fetch(pretrained_repository(name, tag or "openai"))
    found = resolve(source)
    return found if isinstance(found, Path) else fetch(found, architecture)


def _text_width(architecture: str | None) -> int | None:
    """Of an architecture's text tower, where it is one of open_clip's."""
    file = architecture_file(architecture) if architecture else None
    return json.loads(file.read_text("utf-8")).get("text_cfg", {}).get("width") if file else None


def _as_architecture(checkpoint: Checkpoint, architecture: str, source: str) -> Checkpoint:
    """Check the weights against open_clip's architecture; take from it what a bare file does not say (heads, activation)."""
    file = architecture_file(architecture)
    if file is None:
        raise RequestError(
            f"no architecture called {architecture!r}: expected one of open_clip's, such as ViT-L-14"
        )
    wanted = json.loads(file.read_text("utf-8"))
    for part in ("text_cfg", "vision_cfg"):
        said, got = wanted.get(part, {}), checkpoint.config.get(part, {})
        keys = {"width", "layers", "vocab_size", "context_length", "patch_size", "image_size"}
        sizes = {key: (said[key], got[key]) for key in said.keys() & got.keys() & keys}
        if "width" in sizes:
            sizes["mlp width"] = (mlp_width(said), mlp_width(got))
        for key, (expected, found) in sizes.items():
            if expected != found:
                raise RequestError(
                    f"{source}: {architecture} has {part[:-4]} {key} {expected}, the weights have {found}; "
                    "name the architecture that they belong to"
                )
    if checkpoint.config_known:
        return checkpoint
    # OpenAI's models have heads of width 64 and QuickGELU, which open_clip's files for them leave unsaid.
    as_openai = "head_width" not in wanted.get("vision_cfg", {})
    config = {**wanted, "quick_gelu": wanted.get("quick_gelu", as_openai)}
    if "vision_cfg" not in checkpoint.config:
        config.pop("vision_cfg", None)
    return replace(checkpoint, config=config)


def _on_base(checkpoint: Checkpoint, base: Clip, source: str) -> Checkpoint:
    weights, config = checkpoint.weights, base.config
    if "text_projection" not in weights or checkpoint.config["embed_dim"] != config["embed_dim"]:
        got = checkpoint.config["embed_dim"] if "text_projection" in weights else "no text projection"
        raise RequestError(
            f"{source}: expected text embeddings of {config['embed_dim']} for the image tower of {base.name}, got {got}"
        )
    kept = {k: v for k, v in base.checkpoint.weights.items() if k.startswith("visual.") or k == "logit_scale"}
    return replace(
        checkpoint,
        weights={**kept, **weights},
        config={**checkpoint.config, "vision_cfg": config["vision_cfg"]},
        preprocess=base.checkpoint.preprocess,
        tokenizer_folder=checkpoint.tokenizer_folder or base.checkpoint.tokenizer_folder,
    )
