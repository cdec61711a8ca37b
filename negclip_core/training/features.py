"""Features of the frozen image tower, computed once: training never looks at a picture again."""

from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from negclip_core.clip import Clip
from negclip_core.files import atomic_path
from negclip_core.images import open_image

__all__ = ["image_features"]

_BATCH = 256


def image_features(
    clip: Clip, folder: Path, names: list[str], cache: Path, *, quiet: bool = False
) -> dict[str, Tensor]:
    """Unit-length features float32 [embed_dim] of the images `folder / name`, by name.

    They are kept in `cache` (a folder), one file for each image tower, so that a second run starts at once and an
    interrupted one goes on.

    Raises:
        RequestError: an image is missing or broken.
    """
    store = cache / f"features-{clip.sha256[:16]}.safetensors"
    known: dict[str, Tensor] = load_file(store) if store.exists() else {}
    missing = [name for name in dict.fromkeys(names) if name not in known]
    for start in tqdm(range(0, len(missing), _BATCH), desc="encoding images", disable=quiet or not missing):
        part = missing[start : start + _BATCH]
        features = clip.encode_image([open_image(folder / name) for name in part])
        known |= {name: row.clone() for name, row in zip(part, features, strict=True)}
        if start // _BATCH % 100 == 99 or start + _BATCH >= len(missing):
            with atomic_path(store) as path:
                save_file(known, path)
    return {name: known[name] for name in dict.fromkeys(names)}
