"""The way from each thing to its absence, found by gradient through a frozen diffusion host, one thing after another.

    w_i = argmin  E |v(z_t, t, N(h(rest) + |d| w)) - v*|² / |v* - v(rest)|²,    v* = v(rest) + η (v(rest) - v(rest with the thing))

over captions that deny thing i alone, d = h(rest) - h(rest with the thing). The mean of d (`token_targets.ways`) says how the
text tower tells a thing from its absence; what takes a thing out of a picture may lie elsewhere, above all where the place
is hardly ever drawn without it. v* is concept erasure's target (Gandikota et al. 2023, equation 7; see `host_score`).

A way that is found so also takes along what else is asked for. What of it lies in the span of the other things' own ways is
taken out again, by ridge regression.
"""

from pathlib import Path

import torch
from open_clip.model import CLIP
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from negclip_core.files import atomic_path
from negclip_core.training.captions_file import is_had
from negclip_core.training.data import TrainingSet
from negclip_core.training.objectives.host_score import Host
from negclip_core.training.objectives.token_targets import (
    after_prefix,
    at_end,
    attainable,
    beyond_rest,
    ways,
)
from negclip_core.training.text import says_nothing, text_states

__all__ = ["host_ways"]

_PUSH = 1.5  # η
_STEPS, _BATCH = 80, 16  # of one thing
_RATE = 0.004  # Adam's, in units of |d|; falls to zero over the second half
_START = 2.0  # the mean of d times this
_RIDGE = 0.3
_LEAST_ROWS = 4 * _BATCH  # captions of a thing, without which its mean stands


def host_ways(vanilla: CLIP, data: TrainingSet, host: Host, store: Path, *, quiet: bool = False) -> Tensor:
    """The unit ways of all things of `data`, float32 [things, width]; the mean of d for what a thing has ("hat of man").

    Of captions to train on; zero where none of them denies the thing.

    Args:
        store: the file that they are kept in, written after each thing; a search that was stopped goes on from there.
    """
    means = torch.nn.functional.normalize(ways(vanilla, data).last, dim=-1).cpu()
    found, searched = _stored(store, means)
    things = [thing for thing, name in enumerate(data.absent.names) if not is_had(name)]
    left = [thing for thing in things if not searched[thing]]
    for thing in tqdm(left, desc="ways through the host", unit="thing", disable=quiet or not left):
        denying = data.denying(thing)
        alone = denying[(data.absent.counts[denying] == 1) & (data.image[denying] >= 0)]
        alone = alone[~says_nothing(data.affirmative[alone])]
        if len(alone) >= _LEAST_ROWS:
            # Of its own, so that a search goes on as if it had never been stopped.
            torch.manual_seed(thing)
            found[thing] = _search(vanilla, data, alone, host, means[thing].to(data.device)).cpu()
        searched[thing] = True
        with atomic_path(store) as path:
            save_file({"ways": found, "searched": searched}, path)
    for thing in things:
        others = means[[other for other in things if other != thing]]
        found[thing] = _without(found[thing], others)
    return torch.nn.functional.normalize(found, dim=-1).to(data.device)


def _stored(store: Path, means: Tensor) -> tuple[Tensor, Tensor]:
    """The ways found so far, the means where there are none, and of which things they are, bool [things]."""
    try:
        with safe_open(store, "pt") as file:
            # Copied: where in memory a tensor begins moves the last bit of its products.
            found, searched = (file.get_tensor(name).clone() for name in ("ways", "searched"))
        if found.shape == means.shape and searched.shape == means.shape[:1]:
            return found, searched
    except (OSError, SafetensorError):
        pass  # none yet, or damaged: searched anew
    return means.clone(), torch.zeros(len(means), dtype=torch.bool)


def _search(vanilla: CLIP, data: TrainingSet, rows: Tensor, host: Host, mean: Tensor) -> Tensor:
    """One thing's way, in lengths of a caption's own d."""
    way = (_START * mean).requires_grad_()
    optimizer = torch.optim.Adam([way], lr=_RATE)
    for step in range(_STEPS):
        for group in optimizer.param_groups:
            group["lr"] = _RATE * min(1.0, 2 * (1 - step / _STEPS))
        loss = _error(vanilla, data, rows[torch.randint(len(rows), (_BATCH,))], host, way)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return way.detach()


def _error(vanilla: CLIP, data: TrainingSet, rows: Tensor, host: Host, way: Tensor) -> Tensor:
    """How far the host's output along a way is from the target, of the length that the target is away from the rest's."""
    negated, asserted, affirmative = (data.ids(name, rows) for name in ("negated", "asserted", "affirmative"))
    with torch.no_grad():
        own, rest, there = (text_states(vanilla, ids).last for ids in (negated, affirmative, asserted))
        length = (at_end(rest, affirmative) - at_end(there, asserted)).norm(dim=-1, keepdim=True)
        latents, times = host.noisy(data.picture[rows])
        both = host.predict(torch.cat([latents] * 2), torch.cat([times] * 2), torch.cat([rest, there]))
        plain, with_it = both.float().chunk(2)
        push = _PUSH * (plain - with_it)
    beyond = attainable(vanilla.ln_final, beyond_rest(negated, affirmative, rest, length * way))
    free = after_prefix(negated, asserted, affirmative)[..., None]
    output = host.predict(latents, times, torch.where(free, beyond, own)).float()
    return (output - plain - push).square().mean() / push.square().mean()


def _without(way: Tensor, others: Tensor) -> Tensor:
    """A way [width] without what of it lies in the span of others [n, width], unit length each."""
    gram = others @ others.T + _RIDGE * torch.eye(len(others))
    return way - others.T @ torch.linalg.solve(gram, others @ way)
