"""Fetch a CLIP from the Hugging Face hub: the configs, the weights and the tokenizer, and nothing else."""

from pathlib import Path

from negclip_core.checkpoints import FOLDER_LAYOUTS
from negclip_core.errors import RequestError, reason_of
from negclip_core.models import hub_files
from negclip_core.tensor_files import INDEX, shards_of

__all__ = ["fetch", "fetch_first", "out_of_reach", "pretrained_repository"]


def fetch(repository: str, architecture: str | None = None) -> Path:
    """Download (or find in the cache) a repository's CLIP: a folder, or the one file for `architecture`.

    Raises:
        RequestError: there is no such repository or no CLIP in it, it needs an architecture, or the hub is out of reach.
    """
    known = hub_files(repository)
    if known:
        if architecture not in known:
            got = f"got {architecture!r}" if architecture else "none was given"
            raise RequestError(
                f"{repository} holds several CLIPs: expected architecture {', '.join(known)}; {got}"
            )
        file = _download(repository, known[architecture])
        if file is None:
            raise RequestError(
                f"{repository}: its file {known[architecture]} is gone; download one by hand and name it"
            )
        return file
    for config, weights, beside in FOLDER_LAYOUTS:
        if _download(repository, config) is None:
            continue
        for name in weights:
            if (file := _download(repository, name)) is not None:
                shards = shards_of(file) if name.endswith(INDEX) else []
                for extra in (*shards, *beside):
                    _download(repository, extra)
                return file.parent
    raise RequestError(
        f"{repository}: expected an open_clip or transformers CLIP, found neither's config and weights"
    )


def fetch_first(repository: str, names: tuple[str, ...]) -> Path:
    """Download (or find in the cache) the first of these files that the repository has.

    Raises:
        RequestError: it has none of them, or the hub is out of reach.
    """
    for name in names:
        if (file := _download(repository, name)) is not None:
            return file
    raise RequestError(f"{repository}: expected one of {', '.join(names)}, found none of them")


def pretrained_repository(architecture: str, tag: str) -> str:
    """The hub repository of one of open_clip's pretrained weights. Raises RequestError where there is none."""
    from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model

    repository = (get_pretrained_cfg(architecture, tag) or {}).get("hf_hub", "").rstrip("/")
    if repository.count("/") != 1:
        tags = ", ".join(list_pretrained_tags_by_model(architecture)) or "none"
        raise RequestError(
            f"{architecture}:{tag}: no such weights on the hub; open_clip's tags for it: {tags}"
        )
    return str(repository)


def _download(repository: str, name: str) -> Path | None:
    """The file's path in the cache, or None where the repository has no such file."""
    from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(repository, name))
    except LocalEntryNotFoundError as error:  # a kind of EntryNotFoundError, but means "cannot reach the hub"
        if try_to_load_from_cache(repository, name) is _CACHED_NO_EXIST:
            return None
        raise out_of_reach(repository, error) from error
    except EntryNotFoundError:
        return None
    except Exception as error:  # the hub's client and its transport raise many kinds
        raise out_of_reach(repository, error) from error


def out_of_reach(repository: str, error: Exception) -> RequestError:
    """The one line for a repository that cannot be fetched, whatever the hub's client raised."""
    return RequestError(
        f"{repository}: cannot be fetched from the hub ({reason_of(error)}); "
        "check the name and the connection, or name a local folder"
    )
