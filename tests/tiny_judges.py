"""Tiny models of the true architectures of judges, with random weights, made so that their answer is known."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

__all__ = ["make_blip", "make_chat", "make_grounding_dino", "make_owl"]

WORDS = ("is", "are", "there", "a", "an", "car", "dog", "hat", "glasses", "in", "the", "picture", "photo", "of", "with",
         "man", "answer", "or", "yes", "no", "maybe", "?", ".", ",", "user", "assistant", ":")  # fmt: skip


def _tokenizer(first: str, **special: str) -> Any:
    """Words as tokens; `first` has the number 0."""
    from transformers import PreTrainedTokenizerFast

    names = list(dict.fromkeys([first, *special.values(), "[UNK]", *WORDS]))
    words = Tokenizer(WordLevel({name: n for n, name in enumerate(names)}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", **special)


def make_blip(folder: Path, answer: str) -> Path:
    """A BLIP for questions that answers with one word; random where it is ""."""
    from transformers import (
        BertTokenizer,
        BlipConfig,
        BlipForQuestionAnswering,
        BlipImageProcessor,
        BlipProcessor,
    )

    torch.manual_seed(0)
    folder.mkdir(parents=True)
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(names), "utf-8")
    tokenizer = BertTokenizer.from_pretrained(folder)
    side = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {**side, "vocab_size": len(names), "bos_token_id": 5, "sep_token_id": 3, "pad_token_id": 0, "eos_token_id": 3,
            "encoder_hidden_size": 16, "max_position_embeddings": 64, "projection_dim": 16}  # fmt: skip
    config = BlipConfig(text_config=text, vision_config={**side, "image_size": 32, "patch_size": 16}, projection_dim=16,
                        image_text_hidden_size=16)  # fmt: skip
    model = BlipForQuestionAnswering(config)
    if answer:
        with torch.no_grad():
            model.text_decoder.cls.predictions.bias[names.index(answer)] = 100.0
    model.save_pretrained(folder)
    BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return folder


def make_chat(folder: Path, answer: str, template: bool = True) -> Path:
    """A LLaVA that answers with one word."""
    from transformers import CLIPImageProcessor, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

    torch.manual_seed(0)
    tokenizer = _tokenizer(answer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    image = tokenizer.convert_tokens_to_ids("<image>")
    side = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlavaConfig(
        text_config={**side, "model_type": "llama", "vocab_size": len(tokenizer), "num_key_value_heads": 2},
        vision_config={**side, "model_type": "clip_vision_model", "image_size": 32, "patch_size": 16},
        image_token_index=image, image_token_id=image,
    )  # fmt: skip
    model = LlavaForConditionalGeneration(config)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    with torch.no_grad():  # all words are as likely then, and the first of them is taken
        model.model.language_model.norm.weight.zero_()
    model.save_pretrained(folder)
    words = ("{% for m in messages %}user : {% for c in m['content'] %}{% if c['type'] == 'image' %}<image> {% else %}"
             "{{ c['text'] }} {% endif %}{% endfor %}{% endfor %}assistant :")  # fmt: skip
    pictures = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor = LlavaProcessor(pictures, tokenizer, patch_size=16, vision_feature_select_strategy="default",
                               num_additional_image_tokens=1, chat_template=words if template else None)  # fmt: skip
    processor.save_pretrained(folder)
    return folder


def make_owl(folder: Path) -> Path:
    """An OWLv2."""
    from transformers import Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessor, Owlv2Processor

    torch.manual_seed(0)
    tokenizer = _tokenizer("!", pad_token="<pad>", eos_token="</s>")
    side = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = {
        **side,
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    config = Owlv2Config(
        text_config=text, vision_config={**side, "image_size": 32, "patch_size": 8}, projection_dim=16
    )
    model = Owlv2ForObjectDetection(config)
    with torch.no_grad():  # or all scores are 0 or 1
        model.class_head.logit_scale.weight.zero_()
        model.class_head.logit_shift.weight.zero_()
    model.save_pretrained(folder)
    Owlv2Processor(Owlv2ImageProcessor(size={"height": 32, "width": 32}), tokenizer).save_pretrained(folder)
    return folder


def make_grounding_dino(folder: Path) -> Path:
    """A Grounding DINO."""
    from transformers import (
        BertTokenizer,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessor,
        GroundingDinoProcessor,
        SwinConfig,
    )  # fmt: skip

    torch.manual_seed(0)
    folder.mkdir(parents=True)
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(names), "utf-8")
    tokenizer = BertTokenizer.from_pretrained(folder)
    swin = SwinConfig(image_size=32, patch_size=2, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1], window_size=2,
                      out_features=["stage2", "stage3", "stage4"])  # fmt: skip
    text = {"model_type": "bert", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
            "num_attention_heads": 2, "vocab_size": len(names), "max_position_embeddings": 64}  # fmt: skip
    config = GroundingDinoConfig(
        backbone_config=swin, text_config=text, d_model=32, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, num_queries=4, num_feature_levels=4,
    )  # fmt: skip
    model = GroundingDinoForObjectDetection(config)
    with torch.no_grad():  # or all scores are 0 or 1
        model.model.decoder.layer_norm.weight.mul_(0.05)
    model.save_pretrained(folder)
    pictures = GroundingDinoImageProcessor(size={"height": 64, "width": 64})
    GroundingDinoProcessor(pictures, tokenizer).save_pretrained(folder)
    return folder
