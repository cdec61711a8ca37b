"""Which attention is used where, and what is refused."""

from typing import Any

import pytest

from integrations import attention
from integrations.attention import choose_attention, use_attention
from negclip_core.errors import RequestError


@pytest.mark.parametrize(
    ("name", "device", "installed", "chosen"),
    [
        ("auto", "cpu", True, "sdpa"),
        ("auto", "cuda:1", True, "xformers"),
        ("auto", "cuda", False, "sdpa"),
        ("sdpa", "cuda", True, "sdpa"),
        ("xformers", "cuda", True, "xformers"),
    ],
)
def test_xformers_is_used_on_cuda_where_it_is_installed(
    name: str, device: str, installed: bool, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "find_spec", lambda _: object() if installed else None)
    assert choose_attention(name, device) == chosen


@pytest.mark.parametrize(
    ("name", "device", "message"),
    [
        ("flash", "cpu", "expected auto"),
        ("xformers", "cpu", "CUDA only"),
        ("xformers", "cuda", "not installed"),
    ],
)
def test_what_cannot_be_had_is_refused(
    name: str, device: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "find_spec", lambda _: None)
    with pytest.raises(RequestError, match=message):
        choose_attention(name, device)


def test_pytorchs_own_needs_nothing_done() -> None:
    class Pipe:
        calls = 0

        def enable_xformers_memory_efficient_attention(self) -> None:
            self.calls += 1

    pipe: Any = Pipe()
    use_attention(pipe, "sdpa", "auto")
    assert pipe.calls == 0
    use_attention(pipe, "xformers", "auto")
    assert pipe.calls == 1


def test_a_build_of_xformers_without_kernels_is_passed_over_or_told() -> None:
    class Pipe:
        def enable_xformers_memory_efficient_attention(self) -> None:
            raise NotImplementedError("No operator found for\n `memory_efficient_attention_forward`")

    use_attention(Pipe(), "xformers", "auto")
    with pytest.raises(
        RequestError, match=r"^--attention xformers: is installed, and cannot compute here.*found for"
    ):
        use_attention(Pipe(), "xformers", "xformers")
