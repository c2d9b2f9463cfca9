"""The files of a model directory: which are needed, whether they can be read, their checksums.

Nothing here imports torch, so that what is wrong is refused at once.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from lotterylib.data.files import check_readable, read_json
from lotterylib.encoder import ARCHITECTURES, REFUSED
from lotterylib.errors import LotteryError, unknown

TOKENIZER_PATTERNS = (
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "special*",
    "sentence*.model",
    "spiece*",
)
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model")
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"

_FLOATS = ("F64", "F32", "F16", "BF16")

RUN_TIME: dict[str, object] = {
    **dict.fromkeys(("is_decoder", "add_cross_attention", "torchscript"), False),
    **dict.fromkeys(("output_attentions", "output_hidden_states"), False),
    **dict.fromkeys(("gradient_checkpointing", "return_dict_in_generate"), False),
    **dict.fromkeys(("attn_implementation", "_attn_implementation"), None),
    **{"return_dict": True, "chunk_size_feed_forward": 0},
}
"""What a `config.json` may hold from the run that wrote it, and what an encoder that is pruned has
instead."""

_NAMES_ONLY = {"_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype"}
_NAMES_ONLY |= {"id2label", "label2id", "auto_map", *RUN_TIME}


def checked_files(directory: Path) -> tuple[dict[str, Any], list[Path]]:
    """The configuration of a model directory, and the files of its weights.

    Raises:
        LotteryError: what is lacking, cannot be read, is a Git LFS pointer, or is of no model that
            can be pruned here.
    """
    try:
        there = sorted(os.listdir(directory))
    except OSError as error:
        raise LotteryError(f"{directory} cannot be read: {error.strerror}.") from None
    if "adapter_config.json" in there:
        raise LotteryError(
            f"{directory} holds an adapter, not a whole model: merge it into its encoder, and save "
            "that with save_pretrained."
        )
    config_file = directory / "config.json"
    if config_file.name not in there:
        inside = [each for each in there if os.path.isfile(directory / each / "config.json")]
        hint = f" Did you mean {directory / inside[-1]}?" if inside else ""
        raise LotteryError(f"{directory} is not a model directory: it holds no config.json.{hint}")
    config = read_object(config_file, "a model's configuration")
    try:
        json.dumps(config, allow_nan=False)
    except ValueError:
        raise LotteryError(f"{config_file} holds a number that is none, NaN or infinite.") from None
    _check_family(config, config_file)
    weights = _weights_in(directory, there)
    if not set(_TOKENIZER_FILES) & set(there):
        # transformers would make up a tokenizer that knows no word, without a complaint.
        raise LotteryError(f"{directory} holds no tokenizer: one of {', '.join(_TOKENIZER_FILES)}.")
    for file in (*weights, *_tokenizer_files(directory)):
        check_readable(file)
    for file in weights:
        _check_numbers(file)
    return config, weights


def _check_numbers(file: Path) -> None:
    """Refuse weights in a type that was quantized; what is no safetensors is refused on loading."""
    if file.suffix != ".safetensors":
        return
    try:
        with open(file, "rb") as opened:
            header = json.loads(opened.read(min(int.from_bytes(opened.read(8), "little"), 10**8)))
        kinds = {name: each["dtype"] for name, each in header.items() if name != "__metadata__"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return
    for name, kind in kinds.items():
        if kind not in _FLOATS and not name.endswith("_ids"):  # buffers, such as position_ids
            raise LotteryError(
                f"{file} holds {name} as {kind}: save the weights in float32, float16 or bfloat16."
            )


def _check_family(config: dict[str, Any], file: Path) -> None:
    """Refuse a model that cannot be computed and pruned here."""
    model_type = config.get("model_type", "")
    if isinstance(model_type, str) and model_type in REFUSED:
        raise LotteryError(
            f"Models of type {model_type!r} cannot be pruned here ({file}): {REFUSED[model_type]}. "
            f"Accepted: {', '.join(ARCHITECTURES)}."
        )
    if not isinstance(model_type, str) or model_type not in ARCHITECTURES:
        raise unknown(f"model type in {file}:", model_type, ARCHITECTURES)
    if config.get("position_embedding_type", "absolute") not in ("absolute", None):
        raise LotteryError(
            f"{file} asks for position_embedding_type {config['position_embedding_type']!r}, which "
            "transformers 5 no longer computes. Accepted: 'absolute'."
        )
    if config.get("quantization_config"):
        raise LotteryError(
            f"The weights that {file} describes are quantized: save them in float32 or float16, "
            "without quantization_config."
        )


def _weights_in(directory: Path, there: Collection[str]) -> list[Path]:
    """The file with the weights, or the index of their shards with all of these."""
    if WEIGHTS in there:
        return [directory / WEIGHTS]
    if INDEX not in there:
        found = [f for f in there if f.endswith((".safetensors", ".bin", ".h5", ".msgpack", ".pt"))]
        raise LotteryError(
            f"{directory} holds no model.safetensors, the only format of weights that is read"
            + (f"; it holds {', '.join(found)}" if found else "")
            + ": write it with save_pretrained."
        )
    index = directory / INDEX
    places = read_object(index, "an index of shards").get("weight_map")
    if not isinstance(places, dict) or not places:
        raise LotteryError(f"{index} is not an index of shards: it has no weight_map.")
    shards = sorted({str(place) for place in places.values()})
    lacking = [shard for shard in shards if shard not in there]
    if lacking:
        raise LotteryError(
            f"{directory} lacks {', '.join(lacking)}, of the {len(shards)} shards in {INDEX}."
        )
    return [index, *(directory / shard for shard in shards)]


def read_object(file: Path, what: str) -> dict[str, Any]:
    """Read a file that holds a JSON object."""
    check_readable(file)
    try:
        found = read_json(file)
        if not isinstance(found, dict):
            raise ValueError("it holds no object")
    except (OSError, ValueError) as error:
        raise LotteryError(f"{file} is not {what}: {error}.") from None
    return found


def weights_sha256(files: Collection[Path]) -> str:
    """Of the file of weights, or of an index and its shards together."""
    digests = [_sha256(file, file.stat().st_mtime_ns) for file in files]
    return digests[0] if len(digests) == 1 else _joined(digests)


def whole_sha256(directory: Path, config: dict[str, Any], weights: str) -> str:
    """Of all that makes a directory another encoder: weights, configuration and tokenizer."""
    lasting = {key: value for key, value in config.items() if key not in _NAMES_ONLY}
    settings = json.dumps(lasting, sort_keys=True)
    return _joined([weights, settings, tokenizer_sha256(directory)])


def tokenizer_sha256(directory: Path) -> str:
    """Of the tokenizer's files together, with their names."""
    contents = (file.name.encode() + file.read_bytes() for file in _tokenizer_files(directory))
    return hashlib.sha256(b"".join(contents)).hexdigest()


def _tokenizer_files(directory: Path) -> list[Path]:
    return sorted(file for pattern in TOKENIZER_PATTERNS for file in directory.glob(pattern))


@lru_cache(maxsize=64)
def _sha256(path: Path, _mtime_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _joined(parts: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
