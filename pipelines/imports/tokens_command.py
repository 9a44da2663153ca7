"""Commands over tokens: `tokens import`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reelmill.terminal import tell

if TYPE_CHECKING:
    from reelmill.tokenize.layout import Layout

app = typer.Typer(no_args_is_help=True)


@app.callback()
def tokens() -> None:
    """Token shards: import codes that others made."""


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help=".jsonl, Emu3's .json list, or a folder of them.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Run folder to make.", show_default=False)],
    tokenizer: Annotated[str, typer.Option(help="Vision tokenizer that made the codes, by name or file.")] = "",
    codes: Annotated[int, typer.Option(help="Size of its codebook, where it is none that loads here.")] = 0,
    fingerprint: Annotated[str, typer.Option(help="And what tells it from others: hex digits.")] = "",
    text: Annotated[str, typer.Option(help="Text tokenizer of the documents: qwen (Emu3's) or bytes.")] = "qwen",
    layout: Annotated[str, typer.Option(help="Layout of the documents, with --codes: emu3 or emu3.5.")] = "",
) -> None:
    """Make a run folder of codes that others made: Emu3's .pth folders, or JSON lines with text and codes."""
    from reelmill.pipelines.imports.tokens import import_tokens
    from reelmill.tokenize.vocabulary import Vocabulary

    size, whose, name, form = _vision_tokenizer(tokenizer, codes, fingerprint, layout)
    vocab = Vocabulary(text, size, form)  # type: ignore[arg-type]  # it says which there are
    import_tokens(source, out, vocab, whose, name, tell)
    tell(f"Next: reelmill stats {out} · reelmill verify {out} · reelmill train RECIPE --data {out}")


def _vision_tokenizer(tokenizer: str, codes: int, fingerprint: str, layout: str) -> tuple[int, str, str, Layout]:
    """(codes, fingerprint, name, layout) of the vision tokenizer that the options name."""
    from reelmill.config import nearest
    from reelmill.errors import ConfigError
    from reelmill.tokenize.layout import EMU3, LAYOUTS

    if bool(tokenizer) == bool(codes or fingerprint) or bool(codes) != bool(fingerprint):
        raise ConfigError("say whose codes these are: --tokenizer NAME, or --codes N with --fingerprint HEX.")
    if layout and (tokenizer or layout not in LAYOUTS):
        raise ConfigError(f"--layout {layout!r} goes with --codes, not with a tokenizer; {nearest(layout, LAYOUTS)}")
    if tokenizer:
        from reelmill.tokenize import vision

        loaded = vision.load(tokenizer)
        return loaded.codes, loaded.fingerprint, tokenizer, loaded.layout
    if len(fingerprint) < 12 or set(fingerprint) - set("0123456789abcdef"):
        raise ConfigError(f"--fingerprint {fingerprint!r}: at least 12 hex digits, such as a SHA-256 of its weights.")
    return codes, fingerprint, fingerprint[:12], LAYOUTS[layout] if layout else EMU3
