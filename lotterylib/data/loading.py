"""Loading: a found encoder becomes a model under a fresh task layer, and its tokenizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from functools import lru_cache

import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from lotterylib.data.fitting import (
    NOT_FOLLOWED,
    check_longest_pair,
    check_vocabulary,
    configuration_of,
    fitted_tokenizer,
    opening,
    quiet_transformers,
)
from lotterylib.data.pretrained import Encoder
from lotterylib.encoder import ARCHITECTURES
from lotterylib.errors import LotteryError
from lotterylib.tasks import Task


@lru_cache(maxsize=8)
def checked(encoder: Encoder, max_length: int = 128) -> Encoder:
    """Make sure, before any job, that an encoder's model and tokenizer fit each other and us.

    Both are loaded, and the longest pair of texts, of `max_length` tokens, goes through them. A
    process does it once per encoder and length.

    Returns:
        The encoder; its `origin` says in which respects what its files ask for is not followed.

    Raises:
        LotteryError: what does not fit, and cannot be set right.
    """
    if encoder.directory is None:
        return encoder
    tokenizer, said = fitted_tokenizer(encoder)
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(0)
        config, dropped = configuration_of(encoder, 2)
        model, told = _read_model(encoder, config)
    if dropped:
        said.append(f"{', '.join(dropped)} in its config.json {NOT_FOLLOWED}")
    if not _task_layer(model) <= set(told):
        said.append("its own task layer is left out")
    if any(".pooler." in name for name in told):
        said.append("its pooler, which the file lacks, is drawn with the task layer")
    for name, value in model.named_parameters():
        if not torch.isfinite(value).all():
            raise LotteryError(
                f"The weights in {encoder.directory} hold numbers that are none, NaN or infinite, "
                f"in {name}."
            )
    said += check_vocabulary(encoder, model, tokenizer)
    limit = tokenizer.model_max_length
    if limit < max_length:
        said.append(f"texts are cut at {limit} tokens, the most that model and tokenizer take")
    check_longest_pair(encoder, model.eval(), tokenizer, min(limit, max_length))
    return dataclasses.replace(encoder, origin="; ".join([encoder.origin, *said]))


def load_tokenizer(encoder: Encoder) -> PreTrainedTokenizerBase:
    """The encoder's own tokenizer, made to fit its model; the random encoder reads characters.

    Its `model_max_length` is no more than the model has positions for; it gives token types where
    the model tells them apart; it keeps capitals where its files do.
    """
    return _character_tokenizer() if encoder.directory is None else fitted_tokenizer(encoder)[0]


def load_model(encoder: Encoder, task: Task, seed: int, pretrained: bool = True) -> PreTrainedModel:
    """The pre-trained encoder under a fresh task layer, or one of its shape that never learnt.

    The task layer depends on `seed` alone, so a subnetwork that is retrained later starts from the
    same one (paper, section 4.2). PyTorch's global generator is left as it was. Without
    `pretrained` all weights are fresh, embeddings included, drawn as the encoder's configuration
    says: the paper's randomly initialised BERT (section 4.3, table 2).

    Returns:
        A float32 model in evaluation mode on the CPU.

    Raises:
        LotteryError: configuration and weights do not fit each other, or make no model.
    """
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(seed)
        if encoder.directory is None:
            return _of_shape(_tiny_config(task)).eval()
        config, _ = configuration_of(encoder, task.outputs)
        if not pretrained:
            with opening(encoder, "model"):
                return _of_shape(config).eval()
        model, drawn = _read_model(encoder, config)
        if not _task_layer(model) <= set(drawn):  # the file has one, of another task perhaps
            torch.manual_seed(seed)
            fresh = _of_shape(config).state_dict()
            model.load_state_dict({n: fresh[n] for n in _task_layer(model)}, strict=False)
    return model.eval()


def _read_model(
    encoder: Encoder, config: PreTrainedConfig
) -> tuple[PreTrainedModel, Collection[str]]:
    """The model with the file's weights, and the names of those that were drawn instead."""
    with opening(encoder, "model"):
        model, told = AutoModelForSequenceClassification.from_pretrained(
            encoder.directory,  # type: ignore[arg-type]
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    _refuse_other_layers(encoder, model, told)
    return model, {*told["missing_keys"], *(name for name, *_ in told["mismatched_keys"])}


def _task_layer(model: PreTrainedModel) -> set[str]:
    return {
        name for name in model.state_dict() if not name.startswith(f"{model.base_model_prefix}.")
    }


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
    surplus = [
        n for n in told["unexpected_keys"] if f"{ARCHITECTURES[encoder.model_type].layers}." in n
    ]
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
