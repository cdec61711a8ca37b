"""NegationCLIP reads the prompt as it is, and what it says is absent is the negative prompt besides."""

from integrations.methods.negative_prompt import arguments as affirmed

SWAPS_TEXT_ENCODER = True
NEEDS_GUIDANCE = False


def arguments(prompt: str) -> dict[str, str]:
    return {**affirmed(prompt), "prompt": prompt}
