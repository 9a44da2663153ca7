"""A model that is split in any way, put together on the first rank."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from reelmill.config import to_toml

SCRIPT = """
import sys, tomllib
from dataclasses import replace
from pathlib import Path
import torch
from reelmill.config import from_dict
from reelmill.train import checkpoint
from reelmill.train.data.corpus import Corpus
from reelmill.train.parallel import ParallelConfig, join_ranks
from reelmill.train.config import TrainConfig
from reelmill.train.trainer import Trainer
from reelmill.train.gather_full import gather_full_decoder

recipe, data, out = map(Path, sys.argv[1:])
config = from_dict(TrainConfig, tomllib.loads(recipe.read_text()))
corpus = Corpus([data], None, config.data)
with join_ranks("cpu") as ranks:
    for name, parallel in {
        "shard": ParallelConfig(), "tensor": ParallelConfig(tensor=2), "context": ParallelConfig(context=2),
        "recompute": ParallelConfig(recompute="full"),
    }.items():
        trainer = Trainer(replace(config, parallel=parallel), corpus, out / name, ranks, print)
        trainer.step(0)
        trainer.next_step = 1
        trainer.validate()
        whole = gather_full_decoder(trainer.model, ranks, "float32")
        half = gather_full_decoder(trainer.model, ranks, "bfloat16")
        trainer.save()
        trainer.saver.wait()
        assert (whole is None) == (ranks.rank == 1)
        if whole is not None:
            saved = checkpoint.load_decoder(out / name / "checkpoints/step-000001")[0].state_dict()
            assert whole.state_dict().keys() == saved.keys()
            assert all(torch.equal(whole.state_dict()[key], saved[key]) for key in saved)
            assert all(torch.equal(half.state_dict()[key], saved[key].bfloat16()) for key in saved)
            (out / name / "equal").touch()
        ranks.wait()
"""


@pytest.mark.slow
def test_the_whole_model_is_what_the_checkpoint_holds_in_every_layout(run_folder, toy_config, tmp_path):
    model = replace(toy_config.model, vocab_size=531, kv_heads=2, dropout=0.0, attention_dropout=0.0)
    (tmp_path / "recipe.toml").write_text(to_toml(replace(toy_config, model=model)))
    (tmp_path / "script.py").write_text(SCRIPT)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    subprocess.run(
        [*torchrun, tmp_path / "script.py", tmp_path / "recipe.toml", run_folder, tmp_path],
        check=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    made = {path.parent.name for path in tmp_path.glob("*/equal")}
    assert made == {"shard", "tensor", "context", "recompute"}
