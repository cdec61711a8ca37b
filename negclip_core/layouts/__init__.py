"""The layouts in which CLIP's weights are kept, each read into one canonical form.

Canonical: a dict of tensors under OpenAI's names (`visual.*`, `transformer.resblocks.*`, `text_projection`, ...),
which open_clip's `CLIP` shares, and open_clip's `model_cfg` for the architecture.
"""
