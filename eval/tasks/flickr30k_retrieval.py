"""Flickr30k retrieval: the 1,000 test images of Karpathy's split, five captions each, both ways.

name: flickr30k-retrieval
kind: understanding
measures: share of captions whose image, and of images one of whose captions, is first (R@1), among five (R@5) or ten (R@10);
  share of ties
source: Young et al., From image descriptions to visual denotations, TACL 2014; split of Karpathy and Fei-Fei, CVPR 2015,
  dataset_flickr30k.json of cs.stanford.edu/people/karpathy/deepimagesent
licence: research and education only, as Flickr30k's page says
needs: dataset_flickr30k.json ("images", each with "filename", "split", "sentences" of "raw") and its images below --data;
  those of --split are ranked against each other (validation: "val"), or --limit of them, which makes it easier
  published: CLIP L/14@336 R@1 68.7 text to image, 88.0 image to text (table 13 of the CLIP paper, captions after "a photo of")
"""

from pathlib import Path

from eval.data import find_file, read_json, sentence
from eval.options import Options
from eval.registry import Record, Values
from eval.tasks.retrieval import Item, drawn_items, recall, recall_by_chance, run
from negclip_core.errors import RequestError

__all__ = ["chance", "items", "measure", "run"]

_RANKS = (1, 5, 10)
_SPLITS = {"validation": "val"}


def items(data: Path, options: Options) -> list[Item]:
    """The images of the split. Raises RequestError for another form, an image that is there twice or one that is missing."""
    path = find_file(data, "dataset_flickr30k.json")
    document = read_json(path)
    split = _SPLITS.get(options.split, options.split)
    found: dict[str, list[str]] = {}
    try:
        for image in document["images"]:
            if image["split"] != split:
                continue
            name = sentence(image, "filename")
            if name in found:
                raise ValueError(f"the image {name} is there twice")
            found[name] = [sentence(said, "raw") for said in image["sentences"]]
    except (KeyError, TypeError, ValueError) as error:
        raise RequestError(
            f"{path}: not Karpathy's form, 'images' with filename, split and sentences ({error!r})"
        ) from error
    rows = [(name, name, said) for name, said in found.items() if said]
    if not rows:
        raise RequestError(f"{path}: no image of the split {split!r}; name another one with --split")
    return drawn_items(data, rows, options)


def measure(records: list[Record], reference: list[Record], out: Path) -> Values:
    """R@1, R@5 and R@10, from text to image and from image to text; share of ties."""
    return recall(records, _RANKS)


def chance(records: list[Record]) -> dict[str, float]:
    """What a random order gets."""
    return recall_by_chance(records, _RANKS)
