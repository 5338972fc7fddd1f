"""Time the parts of LazySlide on one slide; run by the Python in which LazySlide is installed.

    /path/to/venv/bin/python lazyslide_parts.py SLIDE TILE_PX MPP BATCH

This file imports nothing of the package, so that it runs where the package is not installed. The
network is timm's resnet50 with random weights in float32. Prints one line of JSON.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from typing import Any


def measure(slide: str, tile_px: int, mpp: float, batch: int) -> dict[str, Any]:
    """Return CPU and clock seconds of each part, and the number of tiles."""
    parts: dict[str, Any] = {}
    last = (time.perf_counter(), 0.0)  # the start of Python counts, as in peer.py

    def mark(part: str) -> None:
        nonlocal last
        now = (time.perf_counter(), time.process_time())
        parts[part] = {"wall_s": now[0] - last[0], "cpu_s": now[1] - last[1]}
        last = (time.perf_counter(), time.process_time())

    torch = importlib.import_module("torch")
    timm = importlib.import_module("timm")
    lazyslide = importlib.import_module("lazyslide")
    wsidata = importlib.import_module("wsidata")
    transforms = importlib.import_module("torchvision.transforms")
    network = timm.create_model("resnet50", pretrained=False, num_classes=0).eval()
    mark("start")
    wsi = wsidata.open_wsi(slide)
    lazyslide.pp.find_tissues(wsi)
    lazyslide.pp.tile_tissues(wsi, tile_px, mpp=mpp, background_fraction=0.9)
    mark("tissue and tiles")
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    prepare = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])
    dataset = wsi.ds.tile_images(tile_key="tiles", transform=prepare)
    count = sum(len(each["image"]) for each in torch.utils.data.DataLoader(dataset, batch))
    mark("reading alone")
    features = lazyslide.tl.feature_extraction(
        wsi,
        network,
        transform=prepare,
        model_name="resnet50",
        device="cpu",
        batch_size=batch,
        pbar=False,
        return_features=True,
    )
    mark("features")
    assert features.shape == (count, 2048), features.shape
    return {"tiles": count, "version": lazyslide.__version__, **parts}


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))))
