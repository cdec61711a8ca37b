"""Swap the text encoder of a Stable Diffusion pipeline (diffusers), and put it back.

Which module of which pipeline is a slot, and what the host reads from it, stands in `stable_diffusion_slots.json`.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import torch

from integrations.fit import check_weights, refuse_misfit
from integrations.gate import GatedTextEncoder
from integrations.swap import Swap
from negclip_core.clip import Clip
from negclip_core.errors import RequestError

__all__ = ["Slot", "Swap", "check_fit", "slot_of", "swap_text_encoder"]

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Slot:
    """A pipeline's place for a text encoder: attribute names, the class that belongs there, what the host reads."""

    module: str
    tokenizer: str
    kind: str  # "CLIPTextModel" | "CLIPTextModelWithProjection"
    reads: str  # "last_hidden_state" | "penultimate" | "pooled"


@cache
def _hosts() -> list[dict[str, Any]]:
    return json.loads(files(__package__).joinpath("stable_diffusion_slots.json").read_text("utf-8"))


def slot_of(pipe: Any) -> Slot:
    """The slot of a diffusers pipeline. Raises RequestError where none is known."""
    names = {kind.__name__ for kind in type(pipe).__mro__}
    for host in _hosts():
        if names & set(host["pipelines"]):
            row = host["slots"][0]
            return Slot(row["module"], row["tokenizer"], row["class"], row["reads"])
    known = "; ".join(host["host"] for host in _hosts())
    raise RequestError(f"{type(pipe).__name__}: no slot for a text encoder is known; known hosts: {known}")


def check_fit(pipe: Any, encoder: Clip) -> Slot:
    """Make sure, changing nothing, that `encoder` fits the slot of `pipe`.

    Raises:
        RequestError: it does not, with what was expected and what came.
    """
    slot = slot_of(pipe)
    where = f"{slot.module} of {type(pipe).__name__}"
    module, tokenizer = getattr(pipe, slot.module, None), getattr(pipe, slot.tokenizer, None)
    if isinstance(module, GatedTextEncoder):
        raise RequestError(f"{where}: is swapped already; restore it first")
    if module is None or tokenizer is None:
        raise RequestError(
            f"{where}: the pipeline was loaded without its text encoder or tokenizer; load it whole"
        )
    if type(module).__name__ != slot.kind:
        raise RequestError(
            f"{where}: expected a {slot.kind}, got {type(module).__name__}; load the pipeline afresh"
        )
    if module.dtype not in _DTYPES:
        raise RequestError(f"{where}: has dtype {module.dtype}; load it as float32, float16 or bfloat16")
    projection = module.config.projection_dim if slot.kind == "CLIPTextModelWithProjection" else None
    refuse_misfit(where, module.config, tokenizer, encoder, projection)
    return slot


def swap_text_encoder(pipe: Any, encoder: Clip, gate: bool = True) -> Swap:
    """Put a CLIP's text tower into a pipeline's slot, in the pipeline's dtype and on its device.

    Args:
        pipe: a diffusers pipeline of `stable_diffusion_slots.json`.
        gate: send prompts without negation to the host's own encoder, so that their pictures stay bit for bit
            what they were. False: the new encoder reads every prompt, the empty one of guidance too.

    Raises:
        RequestError: the encoder does not fit; then nothing has been changed.
    """
    slot = check_fit(pipe, encoder)
    own = getattr(pipe, slot.module)
    new = encoder.text_encoder(projection=slot.kind.endswith("WithProjection"))
    new = new.to(device=pipe._execution_device, dtype=own.dtype)
    check_weights(encoder, new)
    replacement = GatedTextEncoder(own, new, getattr(pipe, slot.tokenizer)) if gate else new
    # Assigning registers the class anew; what was registered before may have been more precise.
    registered = {slot.module: pipe.config[slot.module]}
    return Swap(pipe, {slot.module: replacement}, lambda: pipe.register_to_config(**registered))
