"""Loading: a found encoder becomes a model under a fresh task layer, and its tokenizer."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from lotterylib.data.pretrained import Encoder
from lotterylib.errors import LotteryError
from lotterylib.tasks import Task


def load_tokenizer(encoder: Encoder) -> PreTrainedTokenizerBase:
    """The encoder's own tokenizer; the random encoder reads characters.

    Raises:
        LotteryError: the tokenizer's files make none, or one that cannot pad.
    """
    if encoder.directory is None:
        return _character_tokenizer()
    with _told(encoder, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(encoder.directory, trust_remote_code=False)
    if tokenizer.pad_token_id is None:
        raise LotteryError(f"The tokenizer in {encoder.directory} has no token for padding.")
    return tokenizer


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

    Raises:
        LotteryError: configuration and weights do not fit each other, or make no model.
    """
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(seed)
        if encoder.directory is None:
            return _of_shape(_tiny_config(task)).eval()
        with _told(encoder, "model"):
            config = AutoConfig.from_pretrained(
                encoder.directory, num_labels=task.outputs, trust_remote_code=False
            )
            if not pretrained:
                return _of_shape(config).eval()
            model, told = AutoModelForSequenceClassification.from_pretrained(
                encoder.directory,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    _refuse_other_layers(encoder, model, told)
    return model.eval()


@contextmanager
def _told(encoder: Encoder, what: str) -> Iterator[None]:
    """Whatever transformers raises over files that are wrong becomes a sentence."""
    try:
        yield
    except Exception as error:
        reason = (f"{error}".strip().splitlines() or [type(error).__name__])[-1].strip(" .")
        raise LotteryError(
            f"The {what} in {encoder.directory} cannot be loaded: {reason}."
        ) from error


def _of_shape(config: PreTrainedConfig) -> PreTrainedModel:
    return AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)


def _refuse_other_layers(
    encoder: Encoder, model: PreTrainedModel, told: Mapping[str, Collection]
) -> None:
    """Transformers draws what the file lacks, or has of another size, and drops what is too much.

    For the task layer that is right.
    """
    body = f"{model.base_model_prefix}."
    lacking = [n for n in told["missing_keys"] if n.startswith(body) and ".pooler." not in n]
    surplus = [n for n in told["unexpected_keys"] if f"{encoder.architecture.layers}." in n]
    other = [name for name, *_ in told["mismatched_keys"] if name.startswith(body)]
    for names, what in (
        (lacking, "the weights lack"),
        (surplus, "it has no place for"),
        (other, "it has another size for"),
    ):
        if names:
            raise LotteryError(
                f"The model in {encoder.directory} does not fit its config.json: {what} "
                f"{min(names)}."
            )


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
