"""The folded network predicts what the network predicts that it was made from."""

from __future__ import annotations

import copy

import pytest
import timm
import timm.data
import torch
from torch import Tensor

from tcgn_mil.models import TCGN, create_model, fold_for_inference


def relative(found: Tensor, expected: Tensor) -> float:
    """Return the largest relative l2 distance between predictions of an image."""
    return float(((found - expected).norm(dim=1) / expected.norm(dim=1)).max())


@pytest.fixture(scope="module")
def trained_norms() -> TCGN:
    """Return a tcgn_tiny whose normalisations have seen images, so that folding changes weights."""
    torch.manual_seed(0)
    model = create_model("tcgn_tiny", num_classes=7).train()
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(4, 3, 224, 224) * 2 + 0.5)
    return model.eval()


@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2), (torch.float16, 2e-3)]
)
def test_published_network_folds_within_the_bounds(
    reference_model: TCGN, images: Tensor, dtype: torch.dtype, bound: float
) -> None:
    with torch.inference_mode():
        expected = reference_model(images)
        found = fold_for_inference(reference_model, dtype)(images)
    assert found.dtype == torch.float32
    assert 0 < relative(found, expected) < bound


def test_folding_keeps_predictions_and_features_and_leaves_the_model_alone(
    trained_norms: TCGN,
) -> None:
    before = copy.deepcopy(trained_norms.state_dict())
    images = torch.randn(3, 3, 224, 224)
    folded = fold_for_inference(trained_norms)
    with torch.inference_mode():
        expected_map = trained_norms.forward_features(images)
        last_map = folded.forward_features(images)
        assert torch.allclose(last_map, expected_map, rtol=1e-4, atol=1e-5)
        assert relative(folded(images), trained_norms(images)) < 1e-5
        features = folded.forward_head(last_map, pre_logits=True)
        assert torch.allclose(
            features, trained_norms.forward_head(expected_map, pre_logits=True), atol=1e-5
        )
    after = trained_norms.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_folding_a_model_in_training_mode_copies_its_eval_mode(trained_norms: TCGN) -> None:
    training = copy.deepcopy(trained_norms).train()
    images = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        assert relative(fold_for_inference(training)(images), trained_norms(images)) < 1e-5
    assert training.training


def test_bfloat16_is_closer_than_autocast(reference_model: TCGN, images: Tensor) -> None:
    with torch.inference_mode():
        expected = reference_model(images)
        folded = relative(fold_for_inference(reference_model, torch.bfloat16)(images), expected)
        with torch.autocast("cpu", torch.bfloat16):
            autocast = relative(reference_model(images).float(), expected)
    assert folded < autocast


def test_a_folded_network_has_a_batch_equal_to_its_images(trained_norms: TCGN) -> None:
    images = torch.randn(3, 3, 224, 224)
    folded = fold_for_inference(trained_norms)
    with torch.inference_mode():
        alone = torch.cat([folded(images[i : i + 1]) for i in range(3)])
        assert torch.allclose(folded(images), alone, atol=1e-5)


def test_without_head_it_gives_features(trained_norms: TCGN) -> None:
    model = copy.deepcopy(trained_norms)
    model.reset_classifier(0)
    with torch.inference_mode():
        assert fold_for_inference(model, torch.bfloat16)(torch.randn(2, 3, 224, 224)).shape == (
            2,
            256,
        )


def test_it_refuses_to_train_and_unknown_dtypes(trained_norms: TCGN) -> None:
    folded = fold_for_inference(trained_norms)
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    with pytest.raises(RuntimeError, match="train the model that it was made from"):
        folded.train()
    with pytest.raises(ValueError, match="float64"):
        fold_for_inference(trained_norms, torch.float64)
    for other in (folded, torch.nn.Linear(2, 2)):
        with pytest.raises(
            TypeError, match=f"only a TCGN can be folded, not a {type(other).__name__}"
        ):
            fold_for_inference(other)


def test_it_has_the_preprocessing_of_the_model() -> None:
    model = timm.create_model("tcgn_tiny", num_classes=3)
    config = timm.data.resolve_model_data_config(fold_for_inference(model))
    assert config == timm.data.resolve_model_data_config(model)
    assert config["crop_pct"] == 1


def test_compiles_as_one_graph(trained_norms: TCGN) -> None:
    folded = fold_for_inference(trained_norms)
    compiled = torch.compile(folded, fullgraph=True, backend="eager")
    images = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        assert torch.allclose(compiled(images), folded(images), atol=1e-5)


def test_threads_that_share_a_batch_change_no_prediction() -> None:
    torch.manual_seed(0)
    folded = fold_for_inference(create_model("tcgn_tiny", num_classes=3).eval())
    images, before = torch.randn(3, 3, 224, 224), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            with torch.inference_mode():
                found.append(folded(images))
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)
