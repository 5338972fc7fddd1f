"""Names of models that are known before torch is loaded are those that exist."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import timm

from tcgn_mil.errors import InputError
from tcgn_mil.models.aggregators import AGGREGATORS
from tcgn_mil.models.tcgn_variants import CONFIGS
from tcgn_mil.settings import model_names
from tcgn_mil.settings.model_names import check_aggregator_name, check_encoder_name


def test_they_are_those_of_the_registries() -> None:
    assert set(CONFIGS) == set(model_names.TCGN_NAMES)
    assert set(AGGREGATORS) == set(model_names.AGGREGATOR_NAMES)


def test_every_model_of_timm_is_found_in_its_source() -> None:
    # Former names are models as well, which list_models leaves out.
    former = {"tv_resnet34", "convnext_tiny_in22ft1k"}
    assert all(map(timm.is_model, former))
    in_source = {name for name in timm.list_models() if name not in CONFIGS}
    assert in_source | former <= model_names.timm_names()
    assert all(map(timm.is_model, model_names.timm_names()))


@pytest.fixture
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_names, "sys", SimpleNamespace(modules={}))


@pytest.mark.usefixtures("without_torch")
@pytest.mark.parametrize(
    "name", ["resnet18", "timm:resnet18.a1_in1k", "uni2-h", "MahmoodLab/UNI2-h@main", "tcgn_ti"]
)
def test_names_that_exist_pass(name: str) -> None:
    check_encoder_name(name)


@pytest.mark.usefixtures("without_torch")
def test_others_are_refused_with_names_that_are_like_them() -> None:
    with pytest.raises(InputError, match=r"no encoder 'uni3'.* mean uni"):
        check_encoder_name("uni3", "--set model")
    with pytest.raises(InputError, match=r"timm has no model 'resnet10'.* mean .*resnet10t"):
        check_encoder_name("timm:resnet10")
    with pytest.raises(InputError, match="choose one of gated, attention, mean"):
        check_aggregator_name("median")


def test_where_torch_is_loaded_the_registries_decide() -> None:
    check_encoder_name("a_network_of_your_own")
    check_aggregator_name("brightest")
