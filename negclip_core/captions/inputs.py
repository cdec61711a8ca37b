"""What captions are written from: COCO captions and instances and VQAv2's files, checked entry by entry before any work."""

import json
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

from negclip_core.errors import RequestError, reason_of
from negclip_core.files import parse_json

__all__ = ["read_answers", "read_captions_file", "read_instances", "read_questions"]

_Kinds = type[Any] | tuple[type[Any], ...]
_KEY = (int, str)
_SAID = ("name", "plural", "question")  # texts that must hold a word
_LARGEST = 2**63  # whole numbers beyond are more than the journal can hold


def read_captions_file(path: Path) -> dict[str, Any]:
    """COCO captions. Raises RequestError where not every caption is a text of an image with an id and a name."""
    document = _read(path, ("images", "annotations"))
    try:
        images = _checked(document["images"], {"id": _KEY, "file_name": str}, {"where": str, "place": str})
        for image in images.values():
            _texts(image.get("held_out", []))
        for entry in document["annotations"]:
            _check(entry, {"image_id": _KEY, "caption": str}, {"id": _KEY})
            _known(entry, "image_id", images)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RequestError(
            f"{path}: expected for each caption a text and an image ({reason_of(error)})"
        ) from error
    return document


def read_instances(path: Path) -> dict[str, Any]:
    """COCO instances, with what the drawn world's hold besides. Raises RequestError for another form."""
    document = _read(path, ("images", "annotations", "categories"))
    try:
        _checked(document["images"], {"id": _KEY}, {"place": str, "file_name": str})
        categories = _checked(document["categories"], {"id": _KEY, "name": str}, {"plural": str})
        worn = document.get("attributes", {})
        for said in worn.values():
            _check(said, {"article": str, "verb": str}, {})
            if more := said.keys() - {"article", "verb"}:
                raise ValueError(f"{min(more)!r} in 'attributes'")
        for entry in document["annotations"]:
            _check(entry, {"image_id": _KEY, "category_id": _KEY}, {"gender": str})
            _known(entry, "category_id", categories)
            _texts(entry.get("attributes", []))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RequestError(f"{path}: not COCO instances ({reason_of(error)})") from error
    return document


def read_questions(path: Path) -> dict[str, Any]:
    """VQAv2's questions. Raises RequestError for another form."""
    return _read_vqa(path, "questions", {"question_id": _KEY, "image_id": _KEY, "question": str})


def read_answers(path: Path) -> dict[str, Any]:
    """VQAv2's annotations. Raises RequestError for another form."""
    return _read_vqa(path, "annotations", {"question_id": _KEY, "multiple_choice_answer": str})


def _read_vqa(path: Path, name: str, fields: Mapping[str, _Kinds]) -> dict[str, Any]:
    document = _read(path, (name,))
    try:
        for entry in document[name]:
            _check(entry, fields, {})
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RequestError(f"{path}: not VQAv2's {name} ({reason_of(error)})") from error
    return document


def _read(path: Path, keys: tuple[str, ...]) -> dict[str, Any]:
    try:
        document = parse_json(path.read_text("utf-8"))
        for key in keys:
            document[key]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise RequestError(
            f"{path}: expected a JSON object with {', '.join(keys)} ({type(error).__name__}: {error})"
        ) from error
    return dict(document)


def _checked(
    entries: Iterable[Any], needed: Mapping[str, _Kinds], known: Mapping[str, _Kinds]
) -> dict[Any, Any]:
    """The entries by their ids."""
    found = {}
    for entry in entries:
        _check(entry, needed, known)
        found[entry["id"]] = entry
    return found


def _check(entry: Mapping[str, Any], needed: Mapping[str, _Kinds], known: Mapping[str, _Kinds]) -> None:
    for name, kinds in needed.items():
        _check_value(entry, name, kinds)
    for name, kinds in known.items():
        if name in entry:
            _check_value(entry, name, kinds)


def _check_value(entry: Mapping[str, Any], name: str, kinds: _Kinds) -> None:
    value = entry[name]
    if not isinstance(value, kinds) or (isinstance(value, int) and not -_LARGEST <= value < _LARGEST):
        raise ValueError(f"{name} of {_short(entry)}")
    if name in _SAID and not value.split():
        raise ValueError(f"no word in {name} of {_short(entry)}")


def _known(entry: Mapping[str, Any], name: str, ids: Container[Any]) -> None:
    if entry[name] not in ids:
        raise ValueError(f"nothing has the {name} of {_short(entry)}")


def _texts(said: Any) -> None:
    if not isinstance(said, list) or not all(isinstance(text, str) for text in said):
        raise ValueError(f"expected a list of texts, not {_short(said)}")


def _short(entry: Any) -> str:
    return json.dumps(entry)[:120]
