"""Registry of pathology encoders: each entry builds as it says, and wrong entries are refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tcgn_mil.errors import InputError
from tcgn_mil.models.encoders.architecture import Architecture, build_trunk
from tcgn_mil.models.encoders.token_pooling import PooledEncoder
from tcgn_mil.pathology import (
    PATHOLOGY_ENCODERS,
    PathologyEncoder,
    close_names,
    find_entry,
    match_foreign,
    register_pathology_encoder,
)
from tcgn_mil.types.tile_geometry import PatchSize

ENTRY = """
ours:
  hub: our-group/our-encoder
  architecture: vit_tiny_patch16_224
  width: 192
  licence: MIT
  citation: not published
"""


@pytest.mark.parametrize("name", PATHOLOGY_ENCODERS)
def test_each_entry_builds_with_the_width_and_the_parameters_that_it_states(name: str) -> None:
    entry = PATHOLOGY_ENCODERS[name]
    architecture = Architecture(entry.library, entry.architecture, entry.pooling, entry.arguments)
    with torch.device("meta"):  # shapes without memory
        trunk = build_trunk(architecture)
        encoder = PooledEncoder(trunk, entry.pooling)
        images = torch.empty(1, 3, entry.input_px, entry.input_px)
        features = encoder(images)
    assert features.shape == (1, entry.width)
    assert encoder.num_features == entry.width
    assert sum(each.numel() for each in trunk.parameters()) == entry.parameters


def test_the_entries_are_those_of_the_cards() -> None:
    # Facts that a user would notice if they were wrong, one of each kind.
    virchow2 = PATHOLOGY_ENCODERS["virchow2"]
    assert (virchow2.width, virchow2.token_width, virchow2.pooling) == (2560, 1280, "cls+mean")
    assert virchow2.interpolation == "bicubic"
    assert PATHOLOGY_ENCODERS["gigapath"].patch == PatchSize(256, 0.5)
    assert PATHOLOGY_ENCODERS["gigapath"].input_px == 224
    assert PATHOLOGY_ENCODERS["uni2-h"].patch == PatchSize(224, 0.5)
    assert PATHOLOGY_ENCODERS["h-optimus-0"].mean == (0.707223, 0.578729, 0.703617)
    assert PATHOLOGY_ENCODERS["h-optimus-0"].gated is False
    assert PATHOLOGY_ENCODERS["uni2-h"].access == "licence CC-BY-NC-ND-4.0, gated"
    assert PATHOLOGY_ENCODERS["lunit-vits8"].mean is None


def test_an_entry_is_found_by_name_by_repository_and_in_a_file(tmp_path: Path) -> None:
    found = find_entry("hf-hub:mahmoodlab/uni2-h@main")
    assert found is not None
    assert found.name == "uni2-h"
    assert find_entry("resnet18") is None
    file = tmp_path / "ours.yaml"
    file.write_text(ENTRY)
    ours = find_entry(str(file))
    assert ours is not None
    assert (ours.name, ours.patch, ours.mean) == (
        "ours",
        PatchSize(224, 0.5),
        (0.485, 0.456, 0.406),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            ENTRY + "  widht: 192\n",
            r"encoder ours: unknown config key 'widht'.* did you mean 'width'",
        ),
        (ENTRY.replace("  width: 192\n", ""), "encoder ours: config key 'width' is missing"),
        (ENTRY.replace("192", "many"), "encoder ours: config key 'width' is 'many'"),
        (ENTRY + "  pooling: max\n", "config key 'pooling' is 'max'.* 'cls', 'mean' or 'cls"),
        (ENTRY + "  std: [0.1, 0.1, 0]\n", "std .*positive deviations"),
        (ENTRY + "  input_px: 448\n", "reads 448 px of tiles of 224 px"),
        (ENTRY + ENTRY.replace("ours", "theirs"), "holds 2 encoders, but --encoder takes one"),
        ("", "holds no encoder"),
        ("- a\n- b\n", "holds no mapping"),
        ("ours: 5\n", "the entry of ours is no mapping"),
        ("ours: [", "cannot be read as valid YAML"),
    ],
)
def test_a_wrong_entry_is_refused_by_file_encoder_and_key(
    text: str, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "ours.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=message) as refused:
        find_entry(str(file))
    assert "ours.yaml" in str(refused.value)


def test_an_entry_of_ones_own_is_registered_once_door() -> None:
    before = dict(PATHOLOGY_ENCODERS)
    own = PathologyEncoder(
        name="own",
        hub="owner/own",
        architecture="vit_tiny_patch16_224",
        width=192,
        licence="MIT",
        citation="none",
    )
    register_pathology_encoder(own)
    try:
        assert find_entry("own") is own
        with pytest.raises(InputError, match="pathology encoder 'own' is registered already"):
            register_pathology_encoder(own)
    finally:
        del PATHOLOGY_ENCODERS["own"]
    assert before == PATHOLOGY_ENCODERS


@pytest.mark.parametrize(
    ("name", "width", "identity"),
    [
        ("uni_v1", 1024, "uni[cls]"),
        ("uni_v2", 1536, "uni2-h[cls]"),
        ("virchow2", 2560, "virchow2[cls+mean]"),
        ("virchow2", 1280, "virchow2[cls]"),
        ("hoptimus0", 1536, "h-optimus-0[cls]"),
        ("h0-mini", 1536, "h0-mini[cls+mean]"),
        ("H0-mini", 768, "h0-mini[cls]"),
    ],
)
def test_names_of_other_tools_lead_to_an_entry_and_the_width_to_the_pooling(
    name: str, width: int, identity: str
) -> None:
    found = match_foreign(name, width)
    assert found is not None
    assert found.identity == identity


def test_foreign_names_without_an_entry_or_with_another_width() -> None:
    assert match_foreign("conch_v15", 768) is None
    with pytest.raises(InputError, match="uni_v2 have 1024 columns, but those of uni2-h have 1536"):
        match_foreign("uni_v2", 1024)


def test_names_that_are_nearly_right_are_suggested() -> None:
    assert close_names("UNI2h")[0] == "uni2-h"
    assert close_names("hoptimus-0")[0] == "h-optimus-0"
    assert close_names("resnet18") == []


def test_the_registry_imports_no_torch() -> None:
    code = "import sys, tcgn_mil.pathology; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
