"""What the prompt says is absent becomes the negative prompt of classifier-free guidance (Ho & Salimans, 2022).

The host's own text encoder reads the affirmative rest. It needs a guidance scale above 1.
"""

from negclip_core.language import parse

SWAPS_TEXT_ENCODER = False
NEEDS_GUIDANCE = True


def arguments(prompt: str) -> dict[str, str]:
    parsed = parse(prompt)
    # None is not an empty one: Stable Diffusion XL reads zeros for the former (`force_zeros_for_empty_prompt`).
    denied = {"negative_prompt": parsed.negative_prompt} if parsed.negative_prompt else {}
    return {"prompt": parsed.affirmative, **denied}
