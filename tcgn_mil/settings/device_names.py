"""Names of devices that a config accepts, without loading torch."""

from __future__ import annotations

DEVICE_NAMES = r"^(auto|cpu|mps|cuda(:\d+)?)$"
DEVICE_HELP = (
    "Device: auto (a GPU if there is one), cpu, mps, cuda, or one of several GPUs such as cuda:1."
)
