"""Ways to make a host obey a negation: one file each, found by looking into this folder.

A method's file holds

    SWAPS_TEXT_ENCODER: bool                        whether NegationCLIP takes the host's slot
    NEEDS_GUIDANCE: bool                            whether it does nothing at a guidance scale of 1 or less
    def arguments(prompt: str) -> dict[str, str]    what the pipeline is called with for a prompt

and, where it acts inside a UNet, the hooks with which it does, for prompts of which some deny something

    def hooks(unet, denied: Denied) -> Iterator[RemovableHandle]
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib import import_module
from inspect import signature
from pkgutil import iter_modules
from typing import Any, Protocol, cast

from negclip_core.errors import RequestError

__all__ = ["Method", "acts_inside", "find_method", "guided", "has_guidance", "method_names"]


class Method(Protocol):
    """What a file in this folder holds."""

    SWAPS_TEXT_ENCODER: bool
    NEEDS_GUIDANCE: bool

    def arguments(self, prompt: str) -> dict[str, str]:
        """The pipeline's arguments for a prompt: `prompt`, and if need be `negative_prompt`."""
        ...


@cache
def method_names() -> tuple[str, ...]:
    """The methods there are, by file name with hyphens."""
    return tuple(sorted(module.name.replace("_", "-") for module in iter_modules(__path__)))


def find_method(name: str) -> Method:
    """The method of that name. Raises RequestError where there is none."""
    if name not in method_names():
        raise RequestError(f"no method called {name!r}: expected one of {', '.join(method_names())}")
    return cast(Method, import_module(f"{__name__}.{name.replace('-', '_')}"))


def acts_inside(method: Method) -> bool:
    """Whether a method acts inside the denoiser."""
    return hasattr(method, "hooks")


@contextmanager
def guided(method: Method, pipe: Any, prompts: Sequence[str]) -> Iterator[None]:
    """Within the block the pipeline, called with these prompts, draws by the method, whether it acts inside or not."""
    with ExitStack() as stack:
        if (hooks := getattr(method, "hooks", None)) is not None:
            from integrations.denied import read_denied, unet_of

            unet, denied = unet_of(pipe), read_denied(pipe, prompts)
            if denied.rows.any():
                for handle in hooks(unet, denied):
                    stack.enter_context(handle)
        yield


def has_guidance(pipe: Any, guidance_scale: float) -> bool:
    """Whether a pipeline guides, by asking for a negative prompt's prediction as well, at a guidance scale.

    Where diffusers names the scale of that `true_cfg_scale`, `guidance_scale` is a condition of a distilled host.
    """
    return guidance_scale > 1 and "true_cfg_scale" not in signature(type(pipe).__call__).parameters
