"""Loading: a found encoder becomes a model under a fresh task layer, and its tokenizer."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from safetensors import safe_open
from transformers import (
    CONFIG_MAPPING,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from lotterylib.data.pretrained import RUN_TIME, Encoder, read_object
from lotterylib.encoder import longest_input, padding_id_of
from lotterylib.errors import LotteryError
from lotterylib.tasks import Task


def checked(encoder: Encoder, max_length: int = 128) -> Encoder:
    """Make sure that an encoder's model and tokenizer fit each other and the library.

    Both are loaded, and the longest pair of texts goes through them. Nothing else need be done to
    find out, before any job, what would fail in one.

    Args:
        encoder: as it was found.
        max_length: tokens per example at most.

    Returns:
        The encoder; its `origin` says in which respects what its files ask for is not followed.

    Raises:
        LotteryError: what does not fit, and cannot be set right.
    """
    if encoder.directory is None:
        return encoder
    tokenizer, said = _fitted_tokenizer(encoder)
    for file in encoder.directory.glob("model*.safetensors"):
        with _told(encoder, f"file {file.name}"), safe_open(file, framework="numpy"):
            pass  # it is whole: the header fits the file's length
    with torch.random.fork_rng(devices=[]), quiet_transformers():
        torch.manual_seed(0)
        config, dropped = _configuration(encoder, 2)
        model, told = _read_model(encoder, config)
    if dropped:
        said.append(f"{', '.join(dropped)} in its config.json {_NOT_FOLLOWED}")
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
    said += _check_vocabulary(encoder, model, tokenizer)
    limit = tokenizer.model_max_length
    if limit < max_length:
        said.append(f"texts are cut at {limit} tokens, for which it has positions")
    _check_longest_pair(encoder, model.eval(), tokenizer, min(limit, max_length))
    return dataclasses.replace(encoder, origin="; ".join([encoder.origin, *said]))


_NOT_FOLLOWED = "is not followed"


def load_tokenizer(encoder: Encoder) -> PreTrainedTokenizerBase:
    """The encoder's own tokenizer, made to fit its model; the random encoder reads characters.

    Its `model_max_length` is no more than the model has positions for; it gives token types where
    the model tells them apart; it keeps capitals where its files do.

    Raises:
        LotteryError: the tokenizer's files make none, or one that cannot be made to fit.
    """
    return _character_tokenizer() if encoder.directory is None else _fitted_tokenizer(encoder)[0]


def _fitted_tokenizer(encoder: Encoder) -> tuple[PreTrainedTokenizerBase, list[str]]:
    """The tokenizer, and what had to be set right in it."""
    config, _ = _configuration(encoder, 2)
    options, said = _undeclared(encoder)
    with _told(encoder, "tokenizer"), quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(
            encoder.directory, trust_remote_code=False, **options
        )
        alone = tokenizer("")["input_ids"]
    if tokenizer.pad_token_id is None:
        raise LotteryError(f"The tokenizer in {encoder.directory} has no token for padding.")
    if len(alone) < 2 or len(set(alone)) < 2:
        raise LotteryError(
            f"The tokenizer in {encoder.directory} sets no token before a text and another one "
            "behind it, such as [CLS] and [SEP]; the task layer reads the first."
        )
    for name, place in (("cls_token", alone[0]), ("sep_token", alone[-1])):
        if getattr(tokenizer, name) is None:
            setattr(tokenizer, name, tokenizer.convert_ids_to_tokens(place))
    padding = padding_id_of(config)
    if padding not in (None, tokenizer.pad_token_id):
        raise LotteryError(
            f"The tokenizer in {encoder.directory} pads with id {tokenizer.pad_token_id}, but its "
            f"model tells positions by the padding's id {padding}."
        )
    if tokenizer.truncation_side != "right":
        tokenizer.truncation_side = "right"
        said.append(f"truncation_side in its tokenizer_config.json {_NOT_FOLLOWED}")
    tokenizer.model_max_length = min(tokenizer.model_max_length, longest_input(config))
    least = tokenizer.num_special_tokens_to_add(pair=True) + 2
    if tokenizer.model_max_length < least:
        raise LotteryError(
            f"The encoder in {encoder.directory} reads {tokenizer.model_max_length} tokens at "
            f"most: a pair of texts takes at least {least}."
        )
    return tokenizer, said + _fit_token_types(tokenizer, config)


def _fit_token_types(tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> list[str]:
    """Give token types exactly where model and tokenizer both tell two texts apart by them."""
    names = [name for name in tokenizer.model_input_names if name != "token_type_ids"]
    given = len(names) < len(tokenizer.model_input_names)
    types = tokenizer("a", "a", return_token_type_ids=True)["token_type_ids"]
    known = getattr(config, "type_vocab_size", 0)
    wanted = 0 < max(types, default=0) < known
    if given and not wanted:
        tokenizer.model_input_names = names
        if max(types, default=0):
            return [f"the model knows {known or 'no'} token type(s), so none are given"]
    if wanted and not given:
        tokenizer.model_input_names = [*names[:1], "token_type_ids", *names[1:]]
        return ["token types are given, which the model knows"]
    return []


def _undeclared(encoder: Encoder) -> tuple[dict[str, Any], list[str]]:
    """Options that `tokenizer_config.json` lacks, so that transformers would take its own: they are
    read from `tokenizer.json` or told by the vocabulary.
    """
    assert encoder.directory is not None
    declared, written, vocabulary = (
        encoder.directory / name
        for name in ("tokenizer_config.json", "tokenizer.json", "vocab.txt")
    )
    given = read_object(declared, "a tokenizer's configuration") if declared.is_file() else {}
    if written.is_file():
        normalizer = read_object(written, "a tokenizer").get("normalizer")
        if not isinstance(normalizer, dict) or normalizer.get("type") != "BertNormalizer":
            return {}, []
        same = {"do_lower_case": "lowercase", "strip_accents": "strip_accents"}
        same["tokenize_chinese_chars"] = "handle_chinese_chars"
        options = {ours: normalizer[its] for ours, its in same.items() if its in normalizer}
        return {name: value for name, value in options.items() if name not in given}, []
    if not vocabulary.is_file() or "do_lower_case" in given:
        return {}, []
    with _told(encoder, "vocab.txt"):
        tokens = vocabulary.read_text(encoding="utf-8").splitlines()
    if not _are_cased(tokens):
        return {}, []
    return {"do_lower_case": False}, ["capitals are kept, since its vocab.txt has some"]


def _are_cased(tokens: Collection[str]) -> bool:
    """Whether a vocabulary of word pieces has more capitals than may be there by accident."""
    words = [token for token in tokens if not token.startswith(("[", "<"))]
    return sum(word != word.lower() for word in words) > len(words) / 100


def _check_vocabulary(
    encoder: Encoder, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> list[str]:
    tokens, rows = tokenizer.get_vocab(), model.config.vocab_size
    place = encoder.directory
    if max(tokens.values()) >= rows:
        raise LotteryError(
            f"The tokenizer in {place} has a token of id {max(tokens.values())}, but the model "
            f"only {rows} rows of embeddings: they belong to different encoders."
        )
    words = _words_of(tokenizer)
    around = len(tokenizer("")["input_ids"])
    read = sum(len(ids) == around + 1 for ids in tokenizer(words)["input_ids"]) if words else 0
    if 2 * read <= len(words):
        raise LotteryError(
            f"The tokenizer in {place} reads {read} of {len(words)} words of its own vocabulary: "
            f"its files do not fit each other, or not the tokenizer_class "
            f"{type(tokenizer).__name__!r}."
        )
    said = []
    if 2 * len(tokens) < rows:
        said.append(f"its tokenizer knows {len(tokens):,} of the model's {rows:,} tokens")
    normalizer = tokenizer.backend_tokenizer.normalizer  # type: ignore[attr-defined]
    if getattr(normalizer, "lowercase", False) and _are_cased(tokens):
        said.append("texts are read in lower case as its tokenizer says, but it knows capitals")
    return said


def _words_of(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """About 200 tokens that are words or letters, as they would stand in a text."""
    tokens = tokenizer.get_vocab().keys() - set(tokenizer.all_special_tokens)
    begun = [
        token for token in tokens if token.startswith(("\u2581", "\u0120"))
    ]  # as after a space
    plain = (token.replace("\u2581", "").replace("\u0120", " ") for token in begun or tokens)
    words = sorted(word for word in plain if word.strip().isalpha())
    return words[:: max(1, len(words) // 200)]


@torch.no_grad()
def _check_longest_pair(
    encoder: Encoder, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, length: int
) -> None:
    text = " ".join(_words_of(tokenizer)[:20] * length)
    with _told(encoder, "model with its tokenizer"):
        tokenizer("\u00e9 \u6f22 \U0001f642 ~")  # signs that few vocabularies have
        inputs = tokenizer(text, text, truncation=True, max_length=length, return_tensors="pt")
        logits = model(**inputs).logits
    if not torch.isfinite(logits).all():
        raise LotteryError(f"The model in {encoder.directory} computes numbers that are none.")


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
        config, _ = _configuration(encoder, task.outputs)
        if not pretrained:
            with _told(encoder, "model"):
                return _of_shape(config).eval()
        model, drawn = _read_model(encoder, config)
        if not _task_layer(model) <= set(drawn):  # the file has one, of another task perhaps
            torch.manual_seed(seed)
            fresh = _of_shape(config).state_dict()
            model.load_state_dict({n: fresh[n] for n in _task_layer(model)}, strict=False)
    return model.eval()


def _configuration(encoder: Encoder, labels: int) -> tuple[PreTrainedConfig, list[str]]:
    """The model's configuration, and what is left out of it because it is of `RUN_TIME`."""
    with _told(encoder, "configuration"):
        given, _ = PreTrainedConfig.get_config_dict(encoder.directory)  # type: ignore[arg-type]
        dropped = [
            f"{name} = {given[name]}"
            for name, plain in RUN_TIME.items()
            if given.get(name, plain) != plain
        ]
        kept = {name: value for name, value in given.items() if name not in RUN_TIME}
        return CONFIG_MAPPING[encoder.model_type].from_dict(kept, num_labels=labels), dropped


def _read_model(
    encoder: Encoder, config: PreTrainedConfig
) -> tuple[PreTrainedModel, Collection[str]]:
    """The model with the file's weights, and the names of those that were drawn instead."""
    with _told(encoder, "model"):
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
