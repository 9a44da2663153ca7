"""`kill -9` at random moments of training; the run must end with the weights of an undisturbed one."""

import shutil
from contextlib import contextmanager

from torture.campaign import Tried
from torture.processes import kill_after, seconds_of, start
from torture.toy_training import go_on, weights, write_data

MOST_KILLS = 4


@contextmanager
def campaign(place):
    place.mkdir(parents=True)
    data, undisturbed, out = write_data(place / "data"), place / "undisturbed", place / "run"
    seconds = seconds_of(go_on, data, undisturbed, said=place / "said")
    wanted = weights(undisturbed)

    def attempt(chance):
        shutil.rmtree(out, ignore_errors=True)
        moments = [chance.uniform(0, seconds) for _ in range(chance.randint(1, MOST_KILLS))]
        for moment in moments:
            kill_after(start(go_on, data, out, said=place / "said"), moment)
        go_on_quietly(data, out)
        found = "" if weights(out) == wanted else f"killed after {moments} s: other weights than an undisturbed run"
        return Tried(len(moments), [found] if found else [])

    def go_on_quietly(data, out):
        seconds_of(go_on, data, out, said=place / "said")

    yield attempt
