"""COCO retrieval by its own captions: all images of val2017, five captions each, both ways.

name: coco-retrieval
kind: understanding
measures: share of captions whose image, and of images one of whose captions, is first (R@1), among five (R@5) or ten (R@10);
  share of ties
source: Lin et al., Microsoft COCO, 2014; captions_val2017.json of cocodataset.org (5,000 images)
licence: CC BY 4.0 (annotations); images as Flickr's owners say
needs: captions_val2017.json (else any captions_val*.json) and its images below --data; the first five captions of each
  image, those with a negation as well, which the task "retrieval" leaves out. All images are ranked against each other
  (0.5 GB for 5,000), or --limit of them, which makes it easier. Published figures mostly are of Karpathy's 5,000 test images
  of val2014, which are others
"""

from pathlib import Path

from eval.data import find_file, read_json, sentence
from eval.options import Options
from eval.registry import Record, Values
from eval.tasks.retrieval import Item, drawn_items, recall, recall_by_chance, run
from negclip_core.errors import RequestError

__all__ = ["chance", "items", "measure", "run"]

_RANKS = (1, 5, 10)


def items(data: Path, options: Options) -> list[Item]:
    """The images with their captions. Raises RequestError for another form, an id that is there twice or a missing image."""
    path = find_file(data, "captions_val2017.json", "captions_val*.json", "captions_*.json")
    document = read_json(path)
    try:
        names = {image["id"]: sentence(image, "file_name") for image in document["images"]}
        if len(names) < len(document["images"]):
            raise ValueError("an image's id is there twice")
        captions: dict[int, list[str]] = {key: [] for key in names}
        for annotation in document["annotations"]:
            captions[annotation["image_id"]].append(sentence(annotation, "caption"))
    except (KeyError, TypeError, ValueError) as error:
        raise RequestError(
            f"{path}: not COCO captions with 'images' and 'annotations' ({error!r})"
        ) from error
    rows = [(str(key), names[key], said) for key, said in captions.items() if said]
    return drawn_items(data, rows, options)


def measure(records: list[Record], reference: list[Record], out: Path) -> Values:
    """R@1, R@5 and R@10, from text to image and from image to text; share of ties."""
    return recall(records, _RANKS)


def chance(records: list[Record]) -> dict[str, float]:
    """What a random order gets."""
    return recall_by_chance(records, _RANKS)
