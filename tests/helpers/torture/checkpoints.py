"""A flipped, cut or missing file of the last checkpoint: it is seen, and the run ends with the right weights."""

import shutil
from contextlib import contextmanager

from reelmill.pipelines.ledger.verify import verify_checkpoints
from reelmill.train import checkpoint
from torture.campaign import Tried
from torture.damage import damage_one
from torture.processes import seconds_of
from torture.toy_training import STEPS, go_on, weights, write_data


@contextmanager
def campaign(place):
    place.mkdir(parents=True)
    data, made, out = write_data(place / "data"), place / "made", place / "run"
    seconds_of(go_on, data, made, STEPS - 6, said=place / "said")
    shutil.copytree(made, place / "undisturbed")
    seconds_of(go_on, data, place / "undisturbed", said=place / "said")
    wanted = weights(place / "undisturbed")

    def attempt(chance):
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(made, out)
        tried = Tried(1)
        done = damage_one(checkpoint.latest(out / "checkpoints"), chance)
        if not verify_checkpoints(out).problems:
            tried.failures.append(f"{done}: verify says all is sound")
        seconds_of(go_on, data, out, said=place / "said")
        if weights(out) != wanted:
            tried.failures.append(f"{done}: other weights than an undisturbed run")
        return tried

    yield attempt
