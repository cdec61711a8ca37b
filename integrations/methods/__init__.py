"""Ways to make a host obey a negation: one file each, found by looking into this folder.

A method's file holds

    SWAPS_TEXT_ENCODER: bool                    whether NegationCLIP takes the host's slot
    def arguments(prompt: str) -> dict[str, str]    what the pipeline is called with for a prompt
"""

from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Protocol, cast

from negclip_core.errors import RequestError

__all__ = ["Method", "find_method", "method_names"]


class Method(Protocol):
    """What a file in this folder holds."""

    SWAPS_TEXT_ENCODER: bool

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
