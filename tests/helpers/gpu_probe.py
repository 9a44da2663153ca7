"""A worker of the engine that stands for a model: a task takes as long as its settings say."""

import os
import time


class GpuProbe:
    def __init__(self, settings):
        self.task_s = settings["task_s"]

    def __call__(self, task):
        began = time.time()
        time.sleep(self.task_s)
        place = {"pid": os.getpid(), "gpus": os.environ.get("CUDA_VISIBLE_DEVICES")}
        return {"unit": task["unit"], "began": began, "ended": time.time(), **place}

    def close(self):
        pass
