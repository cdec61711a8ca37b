"""Weights kept in half precision that every library loads in float32."""

import json
from pathlib import Path

from negclip_core.files import atomic_write_json

__all__ = ["load_in_float32"]


def load_in_float32(config: Path) -> None:
    """Let a model's `config.json` name float32: transformers loads in the dtype that stands there, diffusers does not."""
    atomic_write_json(config, json.loads(config.read_text("utf-8")) | {"dtype": "float32"})
