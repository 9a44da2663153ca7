"""What an exception means: a failure of the item or sample that it struck, or the end of the run."""

from __future__ import annotations

from reelmill.errors import DataError, MachineError, ReelmillError, brief
from reelmill.isolation.parent import ItemFailed
from reelmill.isolation.untrusted import Nonsense

_ACCELERATOR = ("AcceleratorError", "CudaError")


def failure_of(error: Exception) -> ItemFailed:
    """The failure of the one item whose work raised `error`.

    What was said or stored wrongly (Nonsense, DataError) is the item's. An exception that nobody foresaw is class
    `machine`: whoever mends its cause can try the item again. Raises what is no item's: errors of the recipe and of the
    machine (ConfigError, WeightsError, MachineError), a broken accelerator, and an OSError with a number (disk full, no
    such file, too many open ones) as MachineError.
    """
    if isinstance(error, ItemFailed):
        return error
    if isinstance(error, ReelmillError) and not isinstance(error, DataError):
        raise error
    if isinstance(error, OSError) and error.errno is not None:
        raise MachineError(f"{error.filename or 'the system'}: {error.strerror}; put that right, then go on") from error
    name = type(error).__name__
    if name in _ACCELERATOR or "CUDA error" in str(error):  # the device takes nothing more from this process
        raise MachineError(f"the accelerator failed: {brief(error)}") from error
    if isinstance(error, MemoryError) or name == "OutOfMemoryError":
        return ItemFailed("machine", f"out_of_memory: {brief(error) or name}")
    reason = f"error: {name}: {brief(error, 300)}"
    return ItemFailed("item" if isinstance(error, DataError | Nonsense) else "machine", reason)
