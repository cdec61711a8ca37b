"""Swap a text encoder of a Stable Diffusion or FLUX pipeline (diffusers), and put it back.

Which module of which pipeline is a slot, and what the host reads from it, stands in `stable_diffusion_slots.json`.
"""

import json
from dataclasses import dataclass
from functools import cache, partial
from importlib.resources import files
from typing import Any

import torch

from integrations.fit import check_weights, refuse_misfit
from integrations.gate import GatedTextEncoder
from integrations.offload import parts_at_hand
from integrations.swap import Swap
from negclip_core.clip import Clip
from negclip_core.errors import RequestError

__all__ = ["Slot", "Swap", "check_fit", "slots_of", "swap_text_encoder"]

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Slot:
    """A pipeline's place for a text encoder: attribute names, the class that belongs there, what the host reads."""

    module: str
    tokenizer: str
    kind: str  # "CLIPTextModel" | "CLIPTextModelWithProjection"
    reads: str  # "last_hidden_state" | "penultimate" | "penultimate and pooled" | "pooled"
    note: str = ""  # what people should know of a swap here


@cache
def _hosts() -> list[dict[str, Any]]:
    return json.loads(files(__package__).joinpath("stable_diffusion_slots.json").read_text("utf-8"))


def slots_of(pipe: Any) -> tuple[Slot, ...]:
    """The slots of a diffusers pipeline. Raises RequestError where none is known, or a swap would be no use."""
    names = {kind.__name__ for kind in type(pipe).__mro__}
    for host in _hosts():
        if not names & set(host["pipelines"]):
            continue
        if "refused" in host:
            raise RequestError(f"{type(pipe).__name__}: no swap helps {host['host']}: {host['refused']}")
        return tuple(
            Slot(row["module"], row["tokenizer"], row["class"], row["reads"], row.get("note", ""))
            for row in host["slots"]
        )
    known = "; ".join(host["host"] for host in _hosts() if "slots" in host)
    raise RequestError(f"{type(pipe).__name__}: no slot for a text encoder is known; known hosts: {known}")


def check_fit(pipe: Any, encoder: Clip) -> Slot:
    """Find, changing nothing, the slot of `pipe` that `encoder` fits.

    Raises:
        RequestError: it fits none, with what was expected and what came.
    """
    misfits = []
    for slot in slots_of(pipe):
        try:
            _check_slot(pipe, slot, encoder)
        except RequestError as error:
            misfits.append(error)
        else:
            return slot
    if len(misfits) == 1:
        raise misfits[0]
    raise RequestError("; or ".join(str(misfit) for misfit in misfits))


def _check_slot(pipe: Any, slot: Slot, encoder: Clip) -> None:
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


def swap_text_encoder(pipe: Any, encoder: Clip, gate: bool = True) -> Swap:
    """Put a CLIP's text tower into a pipeline's slot, in the pipeline's dtype and on its device, or offloaded with it.

    Args:
        pipe: a diffusers pipeline of `stable_diffusion_slots.json`.
        gate: send prompts without negation to the host's own encoder, so that their pictures stay bit for bit
            what they were. False: the new encoder reads every prompt, the empty one of guidance too.

    Raises:
        RequestError: the encoder does not fit; then nothing has been changed.
    """
    slot = check_fit(pipe, encoder)
    with parts_at_hand(pipe):
        own = getattr(pipe, slot.module)
        new = encoder.text_encoder(slot.kind.endswith("WithProjection"), own.config.num_hidden_layers)
        _learn_words(new, own)
        new = new.to(device=pipe._execution_device, dtype=own.dtype)
        check_weights(encoder, new)
        replacement = GatedTextEncoder(own, new, getattr(pipe, slot.tokenizer)) if gate else new
        # Assigning registers the class anew; what was registered before may have been more precise.
        registered = {slot.module: pipe.config[slot.module]}
        return Swap(
            pipe,
            {slot.module: replacement},
            lambda: pipe.register_to_config(**registered),
            partial(parts_at_hand, pipe),
        )


def _learn_words(new: Any, own: Any) -> None:
    """Give a tower the words that textual inversion has added to the host's, in place."""
    table, known = new.get_input_embeddings(), own.get_input_embeddings().weight.detach()
    added = known[table.num_embeddings :].to(table.weight)
    if len(added):
        table.weight = torch.nn.Parameter(torch.cat([table.weight.detach(), added]), requires_grad=False)
        table.num_embeddings = new.config.vocab_size = len(table.weight)
