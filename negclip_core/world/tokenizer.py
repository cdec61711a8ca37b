"""CLIP's tokenizer, cut to the merges that the world's words need.

Every byte keeps its token, so any text can be encoded; the merges kept are those that CLIP's own byte-pair encoding
applies to a word of `words.txt`, in CLIP's order, so those words split exactly as CLIP splits them. The end-of-text
token has the highest id, which is what open_clip's argmax pooling relies on.
"""

import gzip
import json
from functools import cache
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

__all__ = ["words", "write_tokenizer"]

START, END = "<|startoftext|>", "<|endoftext|>"


@cache
def words() -> tuple[str, ...]:
    """The words that the world's language uses, in the order of `words.txt`."""
    return tuple(dict.fromkeys(files(__package__).joinpath("words.txt").read_text("utf-8").split()))


def _clip_merges() -> list[tuple[str, str]]:
    """The merges of OpenAI's CLIP (`bpe_simple_vocab_16e6.txt.gz`, as open_clip ships it), best first."""
    from open_clip.tokenizer import default_bpe

    lines = gzip.decompress(Path(default_bpe()).read_bytes()).decode("utf-8").split("\n")
    merges = [tuple(line.split()) for line in lines[1 : 49152 - 256 - 2 + 1]]
    return [(first, second) for first, second in merges]


def _merges_of(word: str, rank: dict[tuple[str, str], int]) -> set[tuple[str, str]]:
    """The merges that byte-pair encoding applies to one ASCII word."""
    parts = [*word[:-1], word[-1] + "</w>"]
    used = set()
    while len(parts) > 1:
        pairs = list(pairwise(parts))
        best = min(pairs, key=lambda pair: rank.get(pair, len(rank)))
        if best not in rank:
            break
        used.add(best)
        at = pairs.index(best)
        parts[at : at + 2] = ["".join(best)]
    return used


def write_tokenizer(folder: Path) -> None:
    """Write the tokenizer as transformers' CLIPTokenizer reads it (`vocab.json`, `merges.txt`, `tokenizer_config.json`)."""
    from open_clip.tokenizer import bytes_to_unicode

    merges = _clip_merges()
    rank = {pair: index for index, pair in enumerate(merges)}
    # An apostrophe starts a token of its own, so "isn't" is "isn" and "'t".
    pieces = {piece for word in words() for piece in word.replace("'", " '").split()}
    kept = sorted({pair for piece in pieces for pair in _merges_of(piece, rank)}, key=rank.__getitem__)
    symbols = list(bytes_to_unicode().values())
    vocabulary = [*symbols, *(f"{s}</w>" for s in symbols), *("".join(pair) for pair in kept), START, END]
    folder.mkdir(parents=True, exist_ok=True)
    encoder = {token: index for index, token in enumerate(vocabulary)}
    (folder / "vocab.json").write_text(json.dumps(encoder, ensure_ascii=False), "utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in kept)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "bos_token": START,
        "eos_token": END,
        "pad_token": END,
        "unk_token": END,
        "model_max_length": 77,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2), "utf-8")
