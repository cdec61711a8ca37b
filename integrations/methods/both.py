"""NegationCLIP reads the prompt as it is, and what it says is absent is the negative prompt besides."""

from negclip_core.language import parse

SWAPS_TEXT_ENCODER = True
NEEDS_GUIDANCE = False


def arguments(prompt: str) -> dict[str, str]:
    return {"prompt": prompt, "negative_prompt": parse(prompt).negative_prompt}
