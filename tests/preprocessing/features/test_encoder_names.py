"""Names of TRIDENT, STAMP and CLAM lead to the registry, and the width tells the pooling."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.features.encoder_names import describe_field, encoder_identity
from tcgn_mil.preprocessing.features.readers.base import ForeignFeatures, Level
from tcgn_mil.preprocessing.features.settings import ImportSettings
from tcgn_mil.types.features import FeatureInfo
from tcgn_mil.types.tile_geometry import PatchSize, TileSpec


def identity(
    layout: str, encoder: str, width: int, given: str | None = None, level: Level = "tile"
) -> str:
    features = ForeignFeatures(
        layout, np.zeros((1, width), np.float32), None, encoder=encoder, level=level
    )
    return encoder_identity(features, ImportSettings(encoder=given), Path("folder/a.h5"))


# Names and widths as the three tools write them, read in their public repositories.
@pytest.mark.parametrize(
    ("layout", "encoder", "width", "expected"),
    [
        ("trident", "uni_v1", 1024, "uni[cls]"),
        ("trident", "uni_v2", 1536, "uni2-h[cls]"),
        ("trident", "virchow", 2560, "virchow[cls+mean]"),
        ("trident", "virchow2", 2560, "virchow2[cls+mean]"),
        ("trident", "hoptimus0", 1536, "h-optimus-0[cls]"),
        ("trident", "hoptimus1", 1536, "h-optimus-1[cls]"),
        ("trident", "h0-mini", 768, "h0-mini[cls]"),
        ("trident", "h0-mini", 1536, "h0-mini[cls+mean]"),
        ("trident", "gigapath", 1536, "gigapath[cls]"),
        ("trident", "gpfm", 1024, "gpfm[cls]"),
        ("trident", "kaiko-vits8", 384, "kaiko-vits8[cls]"),
        ("trident", "kaiko-vits16", 384, "kaiko-vits16[cls]"),
        ("trident", "kaiko-vitb8", 768, "kaiko-vitb8[cls]"),
        ("trident", "kaiko-vitb16", 768, "kaiko-vitb16[cls]"),
        ("trident", "kaiko-vitl14", 1024, "kaiko-vitl14[cls]"),
        ("trident", "lunit-vits8", 384, "lunit-vits8[cls]"),
        ("trident", "phikon", 768, "phikon[cls]"),
        ("trident", "phikon_v2", 1024, "phikon-v2[cls]"),
        ("trident", "hibou_l", 1024, "hibou-l[cls]"),
        ("trident", "midnight12k", 1536, "midnight[cls]"),
        ("trident", "midnight12k", 3072, "midnight[cls+mean]"),
        ("stamp", "uni", 1024, "uni[cls]"),
        ("stamp", "mahmood-uni", 1024, "uni[cls]"),
        ("stamp", "uni2", 1536, "uni2-h[cls]"),
        ("stamp", "virchow", 1280, "virchow[cls]"),
        ("stamp", "virchow-full", 2560, "virchow[cls+mean]"),
        ("stamp", "virchow_full", 2560, "virchow[cls+mean]"),
        ("stamp", "virchow2", 1280, "virchow2[cls]"),
        ("stamp", "gigapath", 1536, "gigapath[cls]"),
        ("stamp", "h-optimus-0", 1536, "h-optimus-0[cls]"),
        ("stamp", "h_optimus_0", 1536, "h-optimus-0[cls]"),
        ("stamp", "h-optimus-1", 1536, "h-optimus-1[cls]"),
        ("stamp", "h_optimus_1", 1536, "h-optimus-1[cls]"),
        ("stamp", "mstar", 1024, "mstar[cls]"),
        ("clam", "uni_v1", 1024, "uni[cls]"),
        # Encoders without an entry keep their names.
        ("trident", "conch_v1", 512, "conch_v1"),
        ("trident", "conch_v15", 768, "conch_v15"),
        ("trident", "ctranspath", 768, "ctranspath"),
        ("trident", "openmidnight", 1536, "openmidnight"),
        ("stamp", "chief-ctranspath", 768, "chief-ctranspath"),
        ("clam", "resnet50_trunc", 1024, "resnet50_trunc"),
        ("clam", "conch_v1", 512, "conch_v1"),
    ],
)
def test_names_of_other_tools(layout: str, encoder: str, width: int, expected: str) -> None:
    assert identity(layout, encoder, width) == f"{layout}:{expected}"
    assert identity(layout, "", width, given=encoder) == f"{layout}:{expected}"


def test_slide_encoders_are_not_taken_for_tile_encoders() -> None:
    """GigaPath names both, with 768 and 1536 features."""
    assert identity("trident", "gigapath", 768, level="slide") == "trident-slide:gigapath"
    assert identity("stamp", "gigapath", 768, level="patient") == "stamp-patient:gigapath"
    assert identity("stamp", "", 768, "titan", level="slide") == "stamp-slide:titan"
    with pytest.raises(InputError, match="is of encoder prism, not titan"):
        identity("trident", "prism", 1280, "titan", level="slide")


def test_a_width_that_no_pooling_explains_asks_for_the_encoder() -> None:
    with pytest.raises(InputError) as refused:
        identity("trident", "virchow2", 999)
    for part in ("folder/a.h5", "999", "2560", "--encoder"):
        assert part in str(refused.value)
    # The name that the file states cannot be right, so that the user's counts.
    assert identity("trident", "virchow2", 1024, given="uni") == "trident:uni[cls]"
    assert identity("trident", "virchow2", 999, given="ours") == "trident:ours"
    with pytest.raises(InputError, match="uni have 999 columns"):
        identity("trident", "virchow2", 999, given="uni")


@pytest.mark.parametrize("level", ["tile", "slide", "patient"])
def test_a_file_without_a_name_asks_for_it(level: Level) -> None:
    word = "encoder" if level == "tile" else f"{level} encoder"
    with pytest.raises(InputError, match=f"a.h5: does not name its {word}. Fix: .*--encoder"):
        identity("trident", "", 8, level=level)


def test_a_given_name_has_to_agree_with_the_one_that_the_file_states() -> None:
    assert identity("trident", "uni_v1", 1024, given="uni") == "trident:uni[cls]"
    assert identity("trident", "conch_v1", 512, given="conch_v1") == "trident:conch_v1"
    for given in ("mstar", "conch_v1", "uni2-h"):
        with pytest.raises(InputError, match=f"is of encoder uni_v1, not {given}"):
            identity("trident", "uni_v1", 1024, given=given)
    with pytest.raises(InputError, match="is of encoder conch_v1, not ours"):
        identity("trident", "conch_v1", 512, given="ours")


@pytest.mark.parametrize(
    ("encoder", "px", "note"),
    [
        ("trident:uni2-h[cls]", 512, "made from tiles of 256 µm; uni2-h was trained on 112 µm"),
        ("stamp:gigapath[cls]", 224, "made from tiles of 112 µm; gigapath was trained on 128 µm"),
        ("trident:uni[cls]", 224, None),
        ("trident:uni[cls]", 229, None),  # 2 % off
        ("trident:conch_v15", 512, None),
        ("trident-slide:gigapath", 512, None),
    ],
)
def test_another_field_than_that_of_training_is_noted(
    encoder: str, px: int, note: str | None
) -> None:
    spec = TileSpec.for_slide(PatchSize(px, 0.5), slide_mpp=0.25, level_downsamples=[1])
    assert describe_field(FeatureInfo("S", "P", 1, 8, encoder, spec)) == note
