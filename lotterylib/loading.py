"""Loading: a found encoder becomes a model under a fresh task layer, and its tokenizer."""

from __future__ import annotations

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from lotterylib.encoders import Encoder
from lotterylib.tasks import Task


def load_tokenizer(encoder: Encoder) -> PreTrainedTokenizerBase:
    """The encoder's own tokenizer; the random encoder reads characters."""
    if encoder.directory is None:
        return _character_tokenizer()
    return AutoTokenizer.from_pretrained(encoder.directory, trust_remote_code=False)


def load_model(encoder: Encoder, task: Task, seed: int, pretrained: bool = True) -> PreTrainedModel:
    """The pre-trained encoder under a fresh task layer, or one of its shape that never learnt.

    The task layer depends on `seed` alone, so a subnetwork that is retrained later starts from the
    same one (paper, section 4.2). PyTorch's global generator is left as it was.

    Args:
        encoder: a verified encoder.
        task: it decides the number of logits.
        seed: of the task layer (and of every weight, where none is pre-trained).
        pretrained: False for fresh weights throughout, embeddings included, drawn as the encoder's
            configuration says: the paper's randomly initialised BERT (section 4.3, table 2).

    Returns:
        A float32 model in evaluation mode on the CPU.
    """
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(seed)
        if encoder.directory is None:
            config = _tiny_config(task)
        else:
            config = AutoConfig.from_pretrained(encoder.directory, num_labels=task.outputs)
        if encoder.directory is None or not pretrained:
            model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
        else:
            model = AutoModelForSequenceClassification.from_pretrained(
                encoder.directory,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
            )
    return model.eval()


class quiet_transformers:
    """Within it, transformers does not report on every load that the task layer is new."""

    def __enter__(self) -> None:
        self._verbosity = transformers_logging.get_verbosity()
        self._bars = transformers_logging.is_progress_bar_enabled()
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        transformers_logging.set_verbosity(self._verbosity)
        if self._bars:
            transformers_logging.enable_progress_bar()


_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789.,'?!-"


def _tiny_config(task: Task) -> BertConfig:
    return BertConfig(
        vocab_size=len(_ALPHABET) + 6,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=160,
        num_labels=task.outputs,  # type: ignore[call-arg]
    )


def _character_tokenizer() -> PreTrainedTokenizerBase:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", " ", *_ALPHABET]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, "[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=160,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
