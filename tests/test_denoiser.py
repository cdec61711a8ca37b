"""A diffusers pipeline as training asks it."""

from pathlib import Path

import torch

from integrations.denoiser import Denoiser
from pipelines.host import load_host
from pipelines.train import run


def test_pictures_come_noisy_and_predictions_can_be_differentiated_in_the_states(
    pipeline_folder: Path,
) -> None:
    pipe = load_host(str(pipeline_folder), "cpu").pipe
    torch.manual_seed(1)
    images = torch.rand(3, 3, 16, 16) * 2 - 1
    host = Denoiser(pipe, images)
    torch.manual_seed(0)
    latents, times = host.noisy(torch.tensor([2, 0]))
    torch.manual_seed(0)
    assert torch.equal(times, torch.randint(len(pipe.scheduler.alphas_cumprod), (2,)))
    clean = (
        pipe.vae.encode(images[[2, 0]]).latent_dist.mode().detach() * pipe.vae.config.scaling_factor
    ).half()
    wanted = pipe.scheduler.add_noise(clean.float(), torch.randn_like(latents), times)
    torch.testing.assert_close(latents, wanted)
    states = torch.randn(2, 77, 64, requires_grad=True)
    output = host.predict(latents, times, states)
    torch.testing.assert_close(output, pipe.unet(latents, times, states).sample, rtol=1e-4, atol=1e-5)
    output.square().sum().backward()
    assert states.grad is not None and states.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in pipe.unet.parameters())


def test_a_recipe_that_asks_a_host_trains(
    corpus: Path, clip_folder: Path, pipeline_folder: Path, tmp_path: Path
) -> None:
    told = run(corpus / "captions.json", corpus, str(clip_folder), tmp_path / "out", "host", str(pipeline_folder), quiet=True,
               batch_size=8, epochs=2)  # fmt: skip
    assert told["validation_loss"][1] < told["validation_loss"][0]
