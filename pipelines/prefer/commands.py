"""The commands `prefer sample`, `vote`, `build` and `compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reelmill.pipelines.shared_options import (
    AREA,
    MODEL_HELP,
    Area,
    Decode,
    Host,
    Lag,
    Port,
    PromptFile,
    Prompts,
    Ratio,
    Seed,
    Steps,
    VisionTokenizerName,
)
from reelmill.terminal import echo

app = typer.Typer(no_args_is_help=True)

Folder = Annotated[Path, typer.Argument(help="Folder of `prefer sample`.", show_default=False)]
Voters = Annotated[list[str] | None, typer.Option("--voter", help="Whose votes count; may be repeated. Default: all.")]


@app.callback()
def prefer() -> None:
    """Preferences: sample candidates, vote on them, build pairs, compare checkpoints."""


@app.command()
def sample(
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL...",
            help=f"{MODEL_HELP} `compare` needs two.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for candidates, votes and pairs.", show_default=False)],
    prompts: PromptFile = None,
    prompt: Prompts = None,
    count: Annotated[int, typer.Option(help="Candidates for each prompt and model (Emu3: 8 to 10).")] = 8,
    ratio: Ratio = "1:1",
    area: Area = None,
    tokenizer: VisionTokenizerName = None,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Sample from the k likeliest tokens; 0: all.")] = 2048,
    top_p: Annotated[float, typer.Option(help="Sample from the likeliest tokens of this probability.")] = 1.0,
    guidance: Annotated[float, typer.Option(help="Guidance scale (Emu3: 3); 1: none.")] = 1.0,
    negative: Annotated[str, typer.Option(help="Text that guidance moves away from.")] = "",
    seed: Seed = 0,
    decode: Decode = "plain",
    steps: Steps = None,
    lag: Lag = None,
) -> None:
    """Sample several pictures for each prompt and keep their exact tokens.

    The same command again samples what is missing. Under torchrun each process does its share of the prompts.
    """
    from reelmill.eval.generation import SamplingParams, TokenSampling
    from reelmill.eval.preference import Plan
    from reelmill.pipelines.generate.prompts import check_text
    from reelmill.pipelines.prefer.candidates import all_prompts, sample_candidates
    from reelmill.tokenize.documents import grid_for_ratio

    h, w = grid_for_ratio(ratio or "1:1", AREA if area is None else area)
    vision = TokenSampling(temperature=temperature, top_k=top_k, top_p=top_p)
    sampling = SamplingParams(vision=vision, guidance=guidance, negative=check_text(negative, "--negative"), seed=seed)
    plan = Plan(h=h, w=w, count=count, sampling=sampling)
    plan.check()
    texts = all_prompts(prompts, prompt or [])
    for line in sample_candidates(models, tokenizer, texts, plan, out, decode, steps, lag):
        echo(line)
    echo(f"Next: reelmill prefer vote {out}")


@app.command()
def vote(
    folder: Folder,
    ask: Annotated[
        str | None, typer.Option(help="rate (1 to 5 each) or compare (two checkpoints); compare if there are several.")
    ] = None,
    from_: Annotated[Path | None, typer.Option("--from", help="Import the votes of a .jsonl instead.")] = None,
    scorer: Annotated[str | None, typer.Option(help="Let a scorer vote instead: clip, quality or endpoint.")] = None,
    url: Annotated[str, typer.Option(help="Address of the endpoint, up to /v1.")] = "",
    model: Annotated[str, typer.Option(help="Name of the model at the endpoint.")] = "",
    host: Host = "127.0.0.1",
    port: Port = 8300,
    tokenizer: VisionTokenizerName = None,
) -> None:
    """Serve a page on which people vote, until Ctrl-C; or add votes from a file or a scorer.

    Voters give their names. They see the candidates in an order of their own, and not which checkpoint made them. Each
    vote is on the disk before the page moves on.
    """
    from reelmill.errors import ConfigError
    from reelmill.pipelines.prefer.candidates import decode_pictures, open_candidates

    if from_ and scorer:
        raise ConfigError("--from and --scorer are both given; use one, then the other.")
    candidates = open_candidates(folder)
    if from_:
        from reelmill.pipelines.prefer.automatic_votes import import_votes

        echo(import_votes(candidates, from_))
        return
    decode_pictures(candidates, tokenizer)
    if scorer:
        from reelmill.pipelines.prefer.automatic_votes import scorer_votes

        for line in scorer_votes(scorer, candidates, url, model):
            echo(line)
        return
    from reelmill.pipelines.prefer.vote_page import Poll, vote_app
    from reelmill.pipelines.web import address_of, listen, serve

    poll = Poll(candidates, ask or ("compare" if len(candidates.checkpoints) > 1 else "rate"))
    listener, access = listen(host, port)
    echo(f"{len(poll.tasks):,} tasks. Vote at {address_of(listener, access)} (Ctrl-C ends it)")
    serve(vote_app(poll, access), listener)
    echo(f"Next: reelmill prefer {'compare' if poll.mode == 'compare' else 'build'} {folder}")


@app.command()
def export(
    folder: Folder,
    out: Annotated[Path, typer.Argument(help="The .jsonl to write.", metavar="FILE", show_default=False)],
) -> None:
    """Write all candidates as prompts and codes, the very ones that were sampled, for `tokens import`.

    A model learns to draw whole pictures (`train dida`) from pictures that it drew itself.
    """
    from reelmill.pipelines.prefer.candidates import export_codes, open_candidates

    for line in export_codes(open_candidates(folder), out):
        echo(line)


@app.command()
def build(
    folder: Folder,
    name: Annotated[str, typer.Option(help="The pairs are written to FOLDER/pairs/NAME.")] = "default",
    voter: Voters = None,
    least_voters: Annotated[int, typer.Option(min=1, help="Voters that a pair needs (Emu3: 3).")] = 1,
    margin: Annotated[float, typer.Option(min=0, help="Least difference between the best and the worst score.")] = 0.0,
) -> None:
    """Write pairs of the best and the worst candidate of each prompt, and the agreement of voters.

    Pairs hold the exact tokens. The score of a candidate is the mean over voters of the mean over questions. There is
    no pair if the best is no better than the worst. Between equal scores, the candidate sampled first is taken.
    """
    from rich.console import Console

    from reelmill.pipelines.prefer.results import build_pairs

    build_pairs(folder, name, voter or [], least_voters, margin, Console())


@app.command()
def compare(folder: Folder, voter: Voters = None) -> None:
    """Print how often one checkpoint is preferred to another, with confidence intervals."""
    from rich.console import Console

    from reelmill.pipelines.prefer.results import compare_checkpoints

    compare_checkpoints(folder, voter or [], Console())
