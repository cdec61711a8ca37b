"""Whether a CLIP's text tower fits a host's place for one."""

from typing import Any

from negclip_core.clip import Clip
from negclip_core.errors import RequestError

__all__ = ["check_weights", "refuse_misfit"]


def refuse_misfit(where: str, host: Any, tokenizer: Any, encoder: Clip, projection: int | None) -> None:
    """Compare what a host's text encoder is with what is given for it; changes nothing.

    Args:
        where: the place, for people.
        host: the configuration of the host's own text encoder (transformers).
        tokenizer: the host's.
        projection: width of the projected embedding, where the host reads it.

    Raises:
        RequestError: it does not fit, with what was expected and what came.
    """
    text = encoder.config["text_cfg"]
    # Stable Diffusion 2's is cut by its last block, and a whole tower can be cut as well.
    depth = host.num_hidden_layers if text["layers"] == host.num_hidden_layers + 1 else text["layers"]
    rows = [
        ("width", host.hidden_size, text["width"]),
        ("depth", host.num_hidden_layers, depth),
        ("vocabulary", _words_of_old(host.vocab_size, tokenizer, text["vocab_size"]), text["vocab_size"]),
        ("length", host.max_position_embeddings, text["context_length"]),
        # CLIP pools at the highest id: another end token would make it read the wrong position.
        ("end token", tokenizer.eos_token_id, text["vocab_size"] - 1),
    ]
    if projection is not None:
        # A tower that was saved without its projection has the width of its states for `embed_dim`.
        given = encoder.config["embed_dim"] if "text_projection" in encoder.checkpoint.weights else "none"
        rows.append(("projection", projection, given))
    wrong = [f"{what} {expected} expected, {got} given" for what, expected, got in rows if expected != got]
    if not wrong and not _same_words(tokenizer, encoder):
        wrong = ["the same number for every token expected, another vocabulary given"]
    if wrong:
        raise RequestError(
            f"{encoder.name} does not fit {where}: {'; '.join(wrong)}; "
            "use a text tower tuned from the CLIP that this host was trained with"
        )


def check_weights(encoder: Clip, module: Any) -> None:
    """Raise RequestError where the tower, once in the host's dtype, holds what is no number."""
    if not all(bool(p.isfinite().all()) for p in module.parameters()):
        raise RequestError(
            f"{encoder.name}: its weights do not fit into {module.dtype}; load the host as float32"
        )


def _words_of_old(size: int, tokenizer: Any, known: int) -> int:
    """The size of a host's vocabulary without words that were added after all others, as textual inversion does."""
    added = {number for number in tokenizer.get_added_vocab().values() if number >= known}
    return known if size > known and added == set(range(known, size)) else size


def _same_words(tokenizer: Any, encoder: Clip) -> bool:
    own = getattr(encoder.tokenizer, "inner", None) if encoder.checkpoint.tokenizer_folder else None
    if own is None:
        return True
    known = encoder.config["text_cfg"]["vocab_size"]
    old = {word: number for word, number in tokenizer.get_vocab().items() if number < known}
    return bool(own.get_vocab() == old)
