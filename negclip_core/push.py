"""Put a CLIP's folder on the Hugging Face hub: its weights as safetensors, its configs, tokenizer and card, nothing else.

A new repository is public, or what the organisation has for its default, as with transformers' `push_to_hub`.
"""

from pathlib import Path
from typing import Any

from negclip_core.checkpoints import FOLDER_LAYOUTS, read_checkpoint
from negclip_core.errors import RequestError, reason_of
from negclip_core.models import HUB_ID, LORA_FILE

__all__ = ["push"]

_CARD = "README.md"
_STATUS = {
    401: "the hub knows no such token; set HF_TOKEN to one with write permission, or run hf auth login",
    403: "this token may not write there; take one with write permission, or a repository of your own",
    404: "there is no such owner; check the name",
    409: "somebody else has changed it meanwhile; repeat the command",
    412: "somebody else has changed it meanwhile; repeat the command",
}


def push(folder: Path, repository: str, private: bool = False) -> dict[str, Any]:
    """Upload the folder in one commit; the repository is made if need be.

    The token is `HF_TOKEN`, or what `hf auth login` keeps; it is shown nowhere.

    Returns:
        "url" of the commit, and the names of the "files".

    Raises:
        RequestError: the folder is no CLIP with a card, the name is none, or the hub refuses or is out of reach.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, get_token

    if not HUB_ID.fullmatch(repository):
        raise RequestError(f"{repository!r}: expected the repository as owner/name")
    names = _files(folder)
    if get_token() is None:
        raise RequestError(
            f"{repository}: no token; set HF_TOKEN to one with write permission, or run hf auth login"
        )
    api = HfApi()
    adds = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in names]
    try:
        api.create_repo(repository, private=True if private else None, exist_ok=True)
        commit = api.create_commit(repository, adds, commit_message=f"Upload {folder.resolve().name}")
    except Exception as error:  # the hub's client and its transport raise many kinds
        status = getattr(getattr(error, "response", None), "status_code", None)
        why = _STATUS.get(status or 0) or f"{reason_of(error)}; check the connection, and repeat the command"
        raise RequestError(f"{repository}: cannot be written to: {why}") from error
    return {"url": str(commit.commit_url), "files": names}


def _files(folder: Path) -> list[str]:
    """The names of what is uploaded. Raises RequestError where there is no CLIP, no card, or weights in another form."""
    if folder.is_file():
        raise RequestError(
            f"{folder}: expected a folder; negclip convert --to transformers makes one of a file"
        )
    read_checkpoint(folder)
    there = {path.name for path in folder.iterdir() if path.is_file()}
    if _CARD not in there:
        raise RequestError(f"{folder}: has no {_CARD}; write one that says what it is and what made it")
    config, weights, beside = next(layout for layout in FOLDER_LAYOUTS if layout[0] in there)
    if weights[0] not in there:
        raise RequestError(f"{folder}: expected its weights as {weights[0]}; negclip convert writes them so")
    return [config, weights[0], _CARD, *sorted(there & {LORA_FILE, *beside})]
