"""The weights that a run starts from, and its sizes if they come from the weights: a recipe's `init` and `sizes`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from reelmill.config import from_dict
from reelmill.errors import ConfigError
from reelmill.tokenize.vocabulary import Vocabulary
from reelmill.train import checkpoint, hub
from reelmill.train.config import TrainConfig
from reelmill.train.model import Decoder, ModelConfig
from reelmill.train.provenance import Training
from reelmill.train.vertical import begin_vertical, decoder_tensors

_SIZES = ("vocab_size", "hidden", "layers", "heads", "kv_heads", "head_size", "mlp", "qk_norm")
_NUMBERS = ("rope_theta", "norm_eps")
_TAKEN = ("vocab_size", "hidden", "layers", "heads", "kv_heads", "head_dim", "mlp", "qk_norm", *_NUMBERS)
"""The fields of [model] that are the weights' where `sizes` is "init"; dropout and the like are the recipe's."""


def load_init_weights(place: Path, model: Decoder, vocab: Vocabulary, tokenizer: str) -> str:
    """Load a decoder that is split over the ranks, on all of them together; returns what was loaded, for the log.

    Only weights are taken: a rank reads its own slices, one tensor at a time, and the optimizer begins anew. Raises
    ConfigError as `find_init_weights` does.
    """
    found, theirs = find_init_weights(place, model.config, vocab, tokenizer)
    loaded = f"weights of {found}" + _differing(theirs, model.config)
    is_whole = theirs.vertical_layers == model.config.vertical_layers
    if not (found / "config.json").is_file():
        checkpoint.load_tensors(dict(model.state_dict()) if is_whole else decoder_tensors(model), found / "model")
        if not is_whole:
            begin_vertical(model)
        return loaded
    rows, size = hub.taken_rows(found, theirs, model.config.vocab_size), model.config.vocab_size
    hub.fill(model, place, rows=rows if rows < size else None)
    begin_vertical(model)
    if rows == size:
        return loaded
    return (
        f"{loaded}; {rows:,} ids of the vocabulary are its own (text, PAD, <|im_start|>, <|im_end|>), {size - rows:,} "
        f"are new and begin at random: {vocab.name(rows)} to {vocab.name(vocab.vision_start - 1)}, and all codes"
    )


def learned_by(place: Path) -> list[str] | None:
    """What the weights at `place` have learned (`TrainState.learned`); None where that is not known."""
    _, _, training = _find(place)
    return None if training is None else training.learned


def with_init_sizes(config: TrainConfig, out: Path | None = None) -> tuple[TrainConfig, str]:
    """The config with the model that it is about where `sizes` is "init", and what that changed, for the log.

    A run that has a checkpoint in `out` already is of that one's sizes. Raises ConfigError where `init` is no place
    with weights.
    """
    if config.sizes == "recipe" or not config.init:
        return config, ""
    last = out and checkpoint.latest(out / "checkpoints")
    place, found, training = _find(last or Path(config.init))
    taken = {field: getattr(found, field) for field in _TAKEN}
    if training is None and hub.is_qwen3(place, found):
        del taken["vocab_size"]  # that of the data, of which Qwen3's is the beginning
    model = replace(config.model, **taken)
    changed = [f"{field} {_value(model, field)}" for field in _differ(model, config.model, _SIZES + _NUMBERS)]
    return replace(config, model=model), f"sizes of {place}: {', '.join(changed)}" if changed else ""


def find_init_weights(place: Path, model: ModelConfig, vocab: Vocabulary, tokenizer: str) -> tuple[Path, ModelConfig]:
    """Where the weights of `place` are, and their sizes, if a run may begin with them.

    `place` is a checkpoint, a training run (its last checkpoint) or a folder in Hugging Face's layout. Raises
    ConfigError where it is none of these, or has other sizes, another vocabulary or codes of another vision tokenizer
    than `tokenizer` (its fingerprint; of a Hugging Face folder that is no export only the vocabulary's size is known).
    Qwen3's vocabulary may be the beginning of a larger one.
    """
    last, found, training = _find(place)
    if training is None and vocab.text == "qwen" and hub.taken_rows(last, found, model.vocab_size):
        _check_sizes(last, found, model, _SIZES[1:])
        return last, found
    _check_sizes(last, found, model)
    if training is None:
        return last, found
    theirs = _vocabulary(last)
    if theirs != vocab or training.tokenizer != tokenizer:
        raise ConfigError(
            f"{last} was trained on {theirs} with the vision tokenizer {training.tokenizer[:12]}, the data is of "
            f"{vocab} with {tokenizer[:12]}: its ids mean something else. Tokenize the data with the same, or begin "
            "elsewhere."
        )
    return last, found


def _vocabulary(found: Path) -> Vocabulary:
    """The vocabulary of a checkpoint or of a folder in Hugging Face's layout."""
    if (found / "config.json").is_file():
        return hub.read_vocabulary(found)
    return Vocabulary.from_json(checkpoint.read_state(found).vocabulary)


def _find(place: Path) -> tuple[Path, ModelConfig, Training | None]:
    """Where the weights of a place are, their sizes, and how they were trained, where that is known."""
    if (place / "config.json").is_file():
        return place, hub.read_config(place), Training.of(place)
    last = checkpoint.find(place)
    if last is None:
        raise ConfigError(
            f"init is {str(place)!r}: no checkpoint, no training run with one, and no folder with a config.json as "
            "Hugging Face lays it out; give one with --set init=FOLDER, or --set init= to begin from scratch."
        )
    state = checkpoint.read_state(last)
    return last, from_dict(ModelConfig, state.recipe["model"]), Training.of_state(state)


def _check_sizes(place: Path, found: ModelConfig, wanted: ModelConfig, fields: tuple[str, ...] = _SIZES) -> None:
    differing = _differ(found, wanted, fields)
    wrong = [f"{field} {_value(found, field)} (model has {_value(wanted, field)})" for field in differing]
    if wrong:
        raise ConfigError(
            f"init is {place}, but its sizes are others: {', '.join(wrong)}; change [model], or begin elsewhere."
        )


def _differ(found: ModelConfig, wanted: ModelConfig, fields: tuple[str, ...] = _SIZES) -> list[str]:
    return [field for field in fields if getattr(found, field) != getattr(wanted, field)]


def _differing(found: ModelConfig, wanted: ModelConfig) -> str:
    """Other differences: allowed, since a longer context may need another theta, but always logged."""
    lines = [f"{f} {_value(found, f)} there, {_value(wanted, f)} here" for f in _differ(found, wanted, _NUMBERS)]
    return f" ({'; '.join(lines)})" if lines else ""


def _value(config: ModelConfig, field: str) -> str:
    value = getattr(config, field)
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else f"{value}"
