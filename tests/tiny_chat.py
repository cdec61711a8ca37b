"""Tiny chat models of the true architectures: a Llama and a LLaVA-NeXT with random weights, or that say what is to be said."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

__all__ = ["make_llava_next", "make_llm"]

_WORDS = [
    "a",
    "car",
    "dog",
    "man",
    "no",
    "on",
    "park",
    "street",
    "tree",
    "with",
    "user:",
    "proposing:",
    "writing:",
    "looking:",
]
_SIDE = {"hidden_size": 48, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
# Where a chat ends, one word says what is asked for: a model that knows the last word alone can then answer.
_ASKED = (
    "{% set asked = messages[-1]['content'] if messages[-1]['content'] is string else messages[-1]['content'][-1]['text'] %}"
    "{% if '\"object\"' in asked %}proposing:{% elif '\"caption\"' in asked %}writing:{% else %}looking:{% endif %}"
)
_REFUSES = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
_TEXT = "<s>{% for m in messages %}{{ m['role'] }}: {{ m['content'] }} {% endfor %}" + _ASKED
_PARTS = (
    "{% for m in messages %}user: {% for c in m['content'] %}{% if c['type'] == 'image' %}<image> {% else %}{{ c['text'] }} "
    "{% endif %}{% endfor %}{% endfor %}" + _ASKED
)


def _tokenizer(answers: Mapping[str, str]) -> Any:
    """Words as tokens, each answer one of them."""
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "<s>", "</s>", "<unk>", "<image>", *_WORDS, *answers.values()]
    words = Tokenizer(WordLevel({name: n for n, name in enumerate(names)}, unk_token="<unk>"))
    words.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, unk_token="<unk>", pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        additional_special_tokens=["<image>"],
    )  # fmt: skip


@torch.no_grad()
def _teach(model: Any, language: Any, tokenizer: Any, answers: Mapping[str, str]) -> None:
    """After each of the words its answer comes, and then the end, whatever stood before."""
    for layer in language.layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    language.embed_tokens.weight.copy_(torch.eye(*language.embed_tokens.weight.shape))
    model.lm_head.weight.zero_()
    for word, answer in answers.items():
        first, said = tokenizer.convert_tokens_to_ids([word, answer])
        model.lm_head.weight[said, first] = 1.0
        model.lm_head.weight[tokenizer.eos_token_id, said] = 1.0


def _ends(model: Any, tokenizer: Any) -> None:
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.repetition_penalty = 5.0  # as some models on the hub


def make_llm(folder: Path, answers: Mapping[str, str] | None = None, template: str = "plain") -> Path:
    """A Llama. `answers`: for "proposing:" and "writing:" what it says; its chat template is "plain", "refuses" or ""."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = _tokenizer(answers or {})
    templates = {"plain": _TEXT, "refuses": _REFUSES + _TEXT, "": None}
    tokenizer.chat_template = templates[template]
    config = LlamaConfig(**_SIDE, vocab_size=len(tokenizer), num_key_value_heads=2, initializer_range=0.5)
    model = LlamaForCausalLM(config)
    _ends(model, tokenizer)
    if answers:
        _teach(model, model.model, tokenizer, answers)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_llava_next(folder: Path, answers: Mapping[str, str] | None = None) -> Path:
    """A LLaVA-NeXT for pictures of 32 x 32 and tiles of them. `answers`: for "looking:" what it says."""
    from transformers import (
        LlavaNextConfig,
        LlavaNextForConditionalGeneration,
        LlavaNextImageProcessor,
        LlavaNextProcessor,
    )

    torch.manual_seed(0)
    tokenizer = _tokenizer(answers or {})
    tiles = [[32, 64], [64, 32], [64, 64]]
    config = LlavaNextConfig(
        text_config={**_SIDE, "model_type": "llama", "vocab_size": len(tokenizer), "num_key_value_heads": 2,
                     "initializer_range": 0.5},
        vision_config={**_SIDE, "model_type": "clip_vision_model", "image_size": 32, "patch_size": 16,
                       "initializer_range": 0.5},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"), image_grid_pinpoints=tiles,
    )  # fmt: skip
    model = LlavaNextForConditionalGeneration(config)
    _ends(model, tokenizer)
    if answers:
        _teach(model, model.model.language_model, tokenizer, answers)
    model.save_pretrained(folder)
    pictures = LlavaNextImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, image_grid_pinpoints=tiles
    )
    LlavaNextProcessor(
        pictures, tokenizer, patch_size=16, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=_PARTS,
    ).save_pretrained(folder)  # fmt: skip
    return folder
