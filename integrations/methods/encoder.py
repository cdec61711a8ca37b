"""The prompt as it is, read by NegationCLIP's text tower. No cost per step, and it works without guidance."""

SWAPS_TEXT_ENCODER = True
NEEDS_GUIDANCE = False


def arguments(prompt: str) -> dict[str, str]:
    return {"prompt": prompt}
