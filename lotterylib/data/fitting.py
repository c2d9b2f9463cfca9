"""Fitting: a tokenizer is made to fit its model, and what does not fit is found before any job."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import (
    CONFIG_MAPPING,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from lotterylib.data.model_files import RUN_TIME, read_object
from lotterylib.data.pretrained import Encoder
from lotterylib.encoder import longest_input, padding_id_of
from lotterylib.errors import LotteryError, line_of

NOT_FOLLOWED = "is not followed"


def fitted_tokenizer(encoder: Encoder) -> tuple[PreTrainedTokenizerBase, list[str]]:
    """The tokenizer, and what had to be set right in it."""
    config, _ = configuration_of(encoder, 2)
    options, said = _undeclared(encoder)
    with opening(encoder, "tokenizer"), quiet_transformers():
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
        said.append(f"truncation_side in its tokenizer_config.json {NOT_FOLLOWED}")
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
    with opening(encoder, "vocab.txt"):
        tokens = vocabulary.read_text(encoding="utf-8").splitlines()
    if not _are_cased(tokens):
        return {}, []
    return {"do_lower_case": False}, ["capitals are kept, since its vocab.txt has some"]


def _are_cased(tokens: Collection[str]) -> bool:
    """Whether a vocabulary has more capitals than may be there by accident."""
    words = [token for token in tokens if not token.startswith(("[", "<"))]
    return sum(word != word.lower() for word in words) > len(words) / 100


def check_vocabulary(
    encoder: Encoder, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> list[str]:
    """What is to be said of a tokenizer whose vocabulary is that of its model.

    Raises:
        LotteryError: it has tokens that the model lacks, or does not read its own vocabulary.
    """
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
    normalizer = getattr(getattr(tokenizer, "backend_tokenizer", None), "normalizer", None)
    if getattr(normalizer, "lowercase", False) and _are_cased(tokens):
        said.append("texts are read in lower case as its tokenizer says, but it knows capitals")
    return said


def _words_of(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """About 200 tokens that are words or letters, as they would stand in a text."""
    tokens = tokenizer.get_vocab().keys() - set(tokenizer.all_special_tokens)
    begun = [token for token in tokens if token.startswith(("\u2581", "\u0120"))]  # after a space
    texts = (tokenizer.convert_tokens_to_string([token]) for token in begun or tokens)
    plain = (text.replace("\u2581", "").replace("\u0120", " ") for text in texts)
    words = sorted(word for word in plain if word.strip().isalpha())
    return words[:: max(1, len(words) // 200)]


@torch.no_grad()
def check_longest_pair(
    encoder: Encoder, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, length: int
) -> None:
    """Let the longest pair of texts, cut at `length` tokens, go through tokenizer and model.

    Raises:
        LotteryError: they fail, or what the model computes is not finite.
    """
    text = " ".join(_words_of(tokenizer)[:20] * length)
    with opening(encoder, "model with its tokenizer"):
        tokenizer("\u00e9 \u6f22 \U0001f642 ~")  # signs that few vocabularies have
        inputs = tokenizer(text, text, truncation=True, max_length=length, return_tensors="pt")
        logits = model(**inputs).logits
        short = tokenizer(text[:20], truncation=True, max_length=length, return_tensors="pt")
        other = model(**short).logits
    if not torch.isfinite(logits).all():
        raise LotteryError(f"The model in {encoder.directory} computes numbers that are none.")
    if torch.equal(logits, other):
        raise LotteryError(
            f"The model in {encoder.directory} computes the same whatever it reads: are its "
            "weights those of a placeholder?"
        )


def configuration_of(encoder: Encoder, labels: int) -> tuple[PreTrainedConfig, list[str]]:
    """The model's configuration, and what is left out of it because it is of `RUN_TIME`."""
    with opening(encoder, "configuration"):
        given, _ = PreTrainedConfig.get_config_dict(encoder.directory)  # type: ignore[arg-type]
        dropped = [
            f"{name} = {given[name]}"
            for name, plain in RUN_TIME.items()
            if given.get(name, plain) != plain
        ]
        kept = {name: value for name, value in given.items() if name not in RUN_TIME}
        return CONFIG_MAPPING[encoder.model_type].from_dict(kept, num_labels=labels), dropped


@contextmanager
def opening(encoder: Encoder, what: str) -> Iterator[None]:
    """Whatever transformers raises over files that are wrong becomes a sentence."""
    try:
        yield
    except Exception as error:
        reason = line_of(error, last=True).strip(" .")
        if isinstance(error, KeyError):
            reason = f"there is no {reason}"
        raise LotteryError(
            f"The {what} in {encoder.directory} cannot be loaded: {reason}."
        ) from error


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
