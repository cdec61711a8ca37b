"""Swap the text encoder of a Stable Diffusion pipeline (diffusers), and put it back.

Which module of which pipeline is a slot, and what the host reads from it, stands in `stable_diffusion_slots.json`.
"""

import json
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import TracebackType
from typing import Any

import torch
from torch import nn

from integrations.gate import GatedTextEncoder
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
    wrong = [
        f"{what} {expected} expected, {got} given"
        for what, expected, got in _comparison(module.config, tokenizer, encoder, slot)
        if expected != got
    ]
    if not wrong and not _same_words(tokenizer, encoder):
        wrong = ["the same number for every token expected, another vocabulary given"]
    if wrong:
        raise RequestError(
            f"{encoder.name} does not fit {where}: {'; '.join(wrong)}; "
            "use a text tower tuned from the CLIP that this host was trained with"
        )
    return slot


def _comparison(host: Any, tokenizer: Any, encoder: Clip, slot: Slot) -> list[tuple[str, int, int]]:
    text = encoder.config["text_cfg"]
    rows = [
        ("width", host.hidden_size, text["width"]),
        ("depth", host.num_hidden_layers, text["layers"]),
        ("vocabulary", host.vocab_size, text["vocab_size"]),
        ("length", host.max_position_embeddings, text["context_length"]),
        # CLIP pools at the highest id: another end token would make it read the wrong position.
        ("end token", tokenizer.eos_token_id, text["vocab_size"] - 1),
    ]
    if slot.kind == "CLIPTextModelWithProjection":
        rows.append(("projection", host.projection_dim, encoder.config["embed_dim"]))
    return rows


def _same_words(tokenizer: Any, encoder: Clip) -> bool:
    own = getattr(encoder.tokenizer, "inner", None) if encoder.checkpoint.tokenizer_folder else None
    return own is None or own.get_vocab() == tokenizer.get_vocab()


class Swap:
    """A swap that is in force until `restore()`, or until the end of its `with` block."""

    def __init__(self, pipe: Any, slot: Slot, replacement: nn.Module) -> None:
        self._pipe, self._slot, self._replacement = pipe, slot, replacement
        self._original = getattr(pipe, slot.module)
        self._registered = pipe.config[slot.module]
        setattr(pipe, slot.module, replacement)

    def restore(self) -> None:
        """Put the host's own text encoder back, the very object that it was. A second call does nothing.

        Raises:
            RequestError: something else has been put into the slot since.
        """
        current = getattr(self._pipe, self._slot.module)
        if current is self._original:
            return
        if current is not self._replacement:
            raise RequestError(f"{self._slot.module}: was changed after this swap; undo that first")
        setattr(self._pipe, self._slot.module, self._original)
        # Assigning registers the class anew; what was registered before may have been more precise.
        self._pipe.register_to_config(**{self._slot.module: self._registered})

    def __enter__(self) -> "Swap":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.restore()


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
    if not all(bool(p.isfinite().all()) for p in new.parameters()):
        raise RequestError(
            f"{encoder.name}: its weights do not fit into {own.dtype}; load the pipeline as float32"
        )
    return Swap(pipe, slot, GatedTextEncoder(own, new, getattr(pipe, slot.tokenizer)) if gate else new)
