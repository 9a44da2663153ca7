"""Commands over conversations: `chat import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reelmill.terminal import tell

app = typer.Typer(no_args_is_help=True)


@app.callback()
def chat() -> None:
    """Conversations: import those about pictures that others wrote."""


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help=".json list, .jsonl, or a folder of them.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Run folder to make.", show_default=False)],
    tokenizer: Annotated[str, typer.Option(help="Vision tokenizer, by name or file.", show_default=False)],
    images: Annotated[Path | None, typer.Option(help="Folder of the pictures; SOURCE's own when not given.")] = None,
    text: Annotated[str, typer.Option(help="Text tokenizer of the documents: qwen (Emu3's) or bytes.")] = "qwen",
    min_pixels: Annotated[int, typer.Option(help="Pictures with fewer pixels are enlarged.")] = 512 * 512,
    max_pixels: Annotated[int, typer.Option(help="Pictures with more pixels are reduced.")] = 1024 * 1024,
    task_layout: Annotated[
        str | None,
        typer.Option(help="Data for Emu3.5's tasks: tasks, edits, howto, walks or lerobot.", show_default=False),
    ] = None,
    every: Annotated[float, typer.Option(help="Seconds between pictures of a video (walks, lerobot).")] = 1.0,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Refuse bad rows, counted; else the first ends it.")] = (
        False
    ),
) -> None:
    """Make a run folder of conversations about pictures: LLaVA's JSON, ShareGPT's, chat messages.

    Or of texts with pictures between them, or of data for Emu3.5's tasks in a published layout. The same command after
    a kill goes on.
    """
    from reelmill.curation.pictures import PixelBounds
    from reelmill.errors import resumable
    from reelmill.pipelines.imports.chat import ChatImport, import_chats
    from reelmill.tokenize import vision
    from reelmill.tokenize.vocabulary import Vocabulary

    loaded = vision.load(tokenizer)
    pictures = images or (source if source.is_dir() else source.parent)
    vocab = Vocabulary(text, loaded.codes, loaded.layout)  # type: ignore[arg-type]  # it says which there are
    how = ChatImport(
        pictures, loaded, tokenizer, vocab, PixelBounds(min_pixels, max_pixels), skip_bad, task_layout, every
    )
    with resumable():
        import_chats(source, out, how, tell)
    recipe = "emu3_5_sft1 --set init=RUN --set sizes=init" if task_layout else "understanding_stage2"
    tell(f"Next: reelmill stats {out} · reelmill verify {out} · reelmill train {recipe} --data {out}")
