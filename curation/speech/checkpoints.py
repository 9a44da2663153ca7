"""Whisper as Transformers saves it: a checkpoint in a folder or on the hub becomes a model for CTranslate2, once.

What was converted lies in the cache, under a hash of the checkpoint's files. Weights are read from safetensors alone.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path

from safetensors import SafetensorError

from reelmill import weights
from reelmill.errors import ConfigError, brief

CONVERTED = "model.bin"
_FILES = ["*.json", "*.txt", "*.safetensors", "vocabulary.*", CONVERTED]
_BESIDE = ("preprocessor_config.json", "tokenizer.json")
"""Files of a checkpoint that faster-whisper reads as they are."""


def whisper_folder(model: str) -> Path | None:
    """A folder of a model for CTranslate2, made of a checkpoint where it is one of Transformers.

    `model`: a folder, or an address on the hub such as `openai/whisper-large-v3`. None for a plain name, which
    faster-whisper knows. Raises ConfigError for what is no Whisper.
    """
    folder = Path(model)
    if not folder.is_dir():
        if "/" not in model:
            return None
        folder = _downloaded(model)
    if (folder / CONVERTED).is_file():
        return folder
    if not any(folder.glob("*.safetensors")) or _kind(folder) != "whisper":
        raise ConfigError(
            f"{folder} holds neither {CONVERTED}, a Whisper for CTranslate2, nor a Whisper of Transformers in "
            "safetensors; name another transcripts.whisper.model"
        )
    return _converted(folder)


def _kind(folder: Path) -> str | None:
    """What config.json says that the model is."""
    try:
        found = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return None
    return found.get("model_type") if isinstance(found, dict) else None


def _downloaded(model: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(model, allow_patterns=_FILES))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ConfigError(
            f"transcripts.whisper.model is {model!r}, which is no folder and does not come from the hub: {brief(error)}"
        ) from None


def _converted(folder: Path) -> Path:
    """The checkpoint's folder in the cache. Whoever converts it at the same time makes the same files."""
    target = weights.cache_root() / "whisper" / _digest(folder)
    if target.is_dir():
        return target
    try:
        from ctranslate2.converters import TransformersConverter
    except ImportError as error:
        raise ConfigError(
            f"{folder} is a checkpoint of Transformers: pip install transformers torch ({error})"
        ) from None
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".converting-") as work:
        made = Path(work) / "model"
        try:
            TransformersConverter(str(folder)).convert(str(made))
        except (KeyError, OSError, RuntimeError, SafetensorError, ValueError) as error:
            raise ConfigError(f"{folder} cannot be converted for CTranslate2: {brief(error)}") from None
        for name in _BESIDE:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, made / name)
        try:
            made.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    return target


def _digest(folder: Path) -> str:
    """Of all files of a checkpoint, by their bytes."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.iterdir() if path.suffix in (".json", ".txt", ".safetensors")):
        with file.open("rb") as data:
            digest.update(f"{file.name}\n{hashlib.file_digest(data, 'sha256').hexdigest()}\n".encode())
    return digest.hexdigest()[:16]
