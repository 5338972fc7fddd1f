"""The training loop learns, resumes, averages weights, and refuses what cannot be trained."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tcgn_mil.devices import to_device
from tcgn_mil.errors import InputError
from tcgn_mil.settings.training import TrainingConfig
from tcgn_mil.training.loop import fit

CONFIG = TrainingConfig(epochs=6, batch_size=8, lr=1e-2, patience=6, accelerator="cpu", seed=1)


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(40, 6, generator=generator)
    return inputs, inputs @ torch.randn(6, 3, generator=generator)


def make_model() -> nn.Module:
    """Return a model with buffers, dropout and a norm, all of which a state must restore."""
    torch.manual_seed(7)
    return nn.Sequential(
        nn.Linear(6, 16), nn.BatchNorm1d(16), nn.GELU(), nn.Dropout(0.2), nn.Linear(16, 3)
    )


def batches(epoch: int) -> list[tuple[Tensor, Tensor]]:
    inputs, targets = data()
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(epoch))
    return [(inputs[rows], targets[rows]) for rows in order.split(8)]


def step(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.mse_loss(model(batch[0]), batch[1])


def validate(model: nn.Module) -> float:
    inputs, targets = data()
    return -float(nn.functional.mse_loss(model(inputs), targets).detach())


def train(model: nn.Module, config: TrainingConfig = CONFIG, **changes: Any) -> Any:
    given = {"step": step, "epoch_batches": batches, "validate": validate, **changes}
    return fit(model, config=config, **given)


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


class Killed(Exception):  # noqa: N818 - stands for kill -9
    pass


def killed_after(epoch: int) -> Callable[[int, Any], None]:
    def on_epoch(done: int, _: Any) -> None:
        if done == epoch:
            raise Killed

    return on_epoch


def test_it_learns() -> None:
    model = make_model()
    before = validate(model.eval())
    history = train(model, dataclasses.replace(CONFIG, epochs=40, patience=40))
    assert history.best_score > 0.2 * before  # scores are negative errors
    assert validate(model) == history.best_score
    assert not model.training


def test_the_best_epoch_is_returned_and_not_the_last() -> None:
    scores = iter([0.1, 0.9, 0.3, 0.2, 0.5, 0.4])
    seen: list[dict[str, Tensor]] = []

    def scripted(model: nn.Module) -> float:
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return next(scores)

    model = make_model()
    history = train(model, validate=scripted)
    assert (history.best_epoch, history.best_score, len(history.epochs)) == (1, 0.9, 6)
    assert all(torch.equal(value, seen[1][name]) for name, value in model.state_dict().items())
    assert any(not torch.equal(value, seen[-1][name]) for name, value in model.state_dict().items())


def test_training_stops_when_patience_is_over() -> None:
    scores = iter([0.1, 0.5, 0.4, 0.3, 0.9, 0.9])
    history = train(
        make_model(), dataclasses.replace(CONFIG, patience=2), validate=lambda _: next(scores)
    )
    assert [epoch["score"] for epoch in history.epochs] == [0.1, 0.5, 0.4, 0.3]


def test_a_score_of_nan_is_never_the_best() -> None:
    scores = iter([float("nan"), -3.0, float("nan"), -2.0, float("nan"), float("nan")])
    assert train(make_model(), validate=lambda _: next(scores)).best_epoch == 3


def test_scores_that_are_all_nan_are_an_error() -> None:
    with pytest.raises(InputError, match="no epoch has a finite validation score"):
        train(make_model(), validate=lambda _: float("nan"))


def test_a_seed_decides_the_result() -> None:
    first, second, other = make_model(), make_model(), make_model()
    for model, seed in ((first, 1), (second, 1), (other, 2)):
        torch.manual_seed(
            np.random.default_rng(seed).integers(100)
        )  # whatever was drawn before does not matter
        train(model, dataclasses.replace(CONFIG, seed=seed))
    assert same(first, second)
    assert not same(first, other)


@pytest.mark.parametrize("average", [0.0, 0.9])
@pytest.mark.parametrize("killed", [0, 2, 5])
def test_a_run_killed_after_an_epoch_ends_with_the_same_weights(
    tmp_path: Path, killed: int, average: float
) -> None:
    config = dataclasses.replace(CONFIG, average=average)
    whole, state = make_model(), tmp_path / "state.safetensors"
    history = train(whole, config)
    with pytest.raises(Killed):
        train(make_model(), config, state_path=state, on_epoch=killed_after(killed))
    resumed = make_model()
    assert train(resumed, config, state_path=state) == history
    assert same(whole, resumed)


LAST = dataclasses.replace(CONFIG, keep="last", patience=1)


def test_the_last_epoch_is_kept_when_asked_for_without_early_stopping() -> None:
    scores = iter([0.1, 0.9, 0.3, 0.2, float("nan"), 0.4])
    seen: list[dict[str, Tensor]] = []

    def scripted(model: nn.Module) -> float:
        seen.append({name: value.clone() for name, value in model.state_dict().items()})
        return next(scores)

    model = make_model()
    history = train(model, LAST, validate=scripted)
    assert (history.best_epoch, history.best_score, len(history.epochs)) == (5, 0.4, 6)
    assert [epoch["score"] for epoch in history.epochs[:4]] == [0.1, 0.9, 0.3, 0.2]
    assert all(torch.equal(value, seen[-1][name]) for name, value in model.state_dict().items())
    assert not model.training


@pytest.mark.parametrize("average", [0.0, 0.9])
@pytest.mark.parametrize("killed", [0, 3, 5])
def test_a_run_without_validation_ends_with_the_same_weights_when_killed(
    tmp_path: Path, killed: int, average: float
) -> None:
    config = dataclasses.replace(LAST, average=average)
    whole, validated, resumed = make_model(), make_model(), make_model()
    history = train(whole, config, validate=None)
    assert history.best_epoch == 5
    assert all(np.isnan(epoch["score"]) for epoch in history.epochs)
    train(validated, config)
    with pytest.raises(Killed):
        train(
            make_model(),
            config,
            validate=None,
            state_path=tmp_path / "s.safetensors",
            on_epoch=killed_after(killed),
        )
    again = train(resumed, config, validate=None, state_path=tmp_path / "s.safetensors")
    assert [epoch["loss"] for epoch in again.epochs] == [epoch["loss"] for epoch in history.epochs]
    assert again.best_epoch == 5
    assert same(whole, resumed)
    assert same(whole, validated)  # validation changes nothing but what is recorded


def test_the_last_average_is_kept() -> None:
    averaged, plain = make_model(), make_model()
    train(averaged, dataclasses.replace(LAST, average=0.9), validate=None)
    train(plain, LAST, validate=None)
    assert not same(averaged, plain)


def test_no_validation_leaves_no_best_epoch_to_keep() -> None:
    with pytest.raises(ValueError, match="needs validate"):
        train(make_model(), validate=None)


def test_a_state_of_another_recipe_is_refused_with_the_keys(tmp_path: Path) -> None:
    train(make_model(), state_path=tmp_path / "state.safetensors")
    changed = dataclasses.replace(LAST, optimizer="adam", schedule="constant")
    with pytest.raises(InputError, match=r"differing keys: keep, optimizer, patience, schedule\."):
        train(make_model(), changed, state_path=tmp_path / "state.safetensors")


def rates_of_steps(monkeypatch: pytest.MonkeyPatch, config: TrainingConfig) -> list[float]:
    """Return the largest learning rate of each step."""
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[config.optimizer]
    rates, original = [], kind.step

    def recorded(self: Any, *arguments: Any, **named: Any) -> Any:
        rates.append(max(group["lr"] for group in self.param_groups))
        return original(self, *arguments, **named)

    monkeypatch.setattr(kind, "step", recorded)
    train(make_model(), config)
    return rates


def test_a_constant_rate_stays_after_the_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(CONFIG, schedule="constant", warmup_fraction=0.5)
    rates = rates_of_steps(monkeypatch, config)
    assert len(rates) == 30
    assert np.all(np.diff(rates[:16]) > 0)
    assert rates[15:] == [config.lr] * 15


def test_adam_trains_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(rates_of_steps(monkeypatch, dataclasses.replace(CONFIG, optimizer="adam"))) == 30


def test_layer_decay_slows_the_layers_near_the_input() -> None:
    class Layered(nn.Sequential):
        def group_matcher(self, coarse: bool = False) -> dict[str, str]:
            return {"stem": r"^[01]\.", "blocks": r"^(\d+)\."}

    def change(layer_decay: float) -> list[float]:
        model = Layered(*make_model())
        before = [model[index].weight.detach().clone() for index in (0, 4)]
        train(model, dataclasses.replace(LAST, layer_decay=layer_decay, weight_decay=0.0))
        return [
            float((model[i].weight - old).abs().mean().detach())
            for i, old in zip((0, 4), before, strict=True)
        ]

    whole, decayed = change(1.0), change(0.01)
    assert decayed[0] < 0.05 * whole[0]
    assert decayed[1] > 0.3 * whole[1]


def test_the_average_is_what_is_validated_and_kept() -> None:
    """The weights jump between two values, and their average lies between these."""
    config = dataclasses.replace(CONFIG, average=0.9, lr=0.3, warmup_fraction=0.0)
    seen: list[float] = []

    def scored(model: nn.Module) -> float:
        assert not model.training
        seen.append(validate(model))
        return seen[-1]

    averaged, plain = make_model(), make_model()
    history = train(averaged, config, validate=scored)
    train(plain, dataclasses.replace(config, average=0.0))
    assert not same(averaged, plain)
    assert validate(averaged.eval()) == max(seen) == history.best_score


def test_a_run_killed_within_an_epoch_ends_with_the_same_weights(tmp_path: Path) -> None:
    def breaking(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        for index, batch in enumerate(batches(epoch)):
            if (epoch, index) == (3, 2):
                raise Killed
            yield batch

    whole, resumed = make_model(), make_model()
    train(whole)
    with pytest.raises(Killed):
        train(make_model(), state_path=tmp_path / "state.safetensors", epoch_batches=breaking)
    train(resumed, state_path=tmp_path / "state.safetensors")
    assert same(whole, resumed)


SCRIPT = """
    import importlib.util, os, signal, sys
    spec = importlib.util.spec_from_file_location("module", sys.argv[1])
    module = importlib.util.module_from_spec(spec)
    sys.modules["module"] = module
    spec.loader.exec_module(module)

    def on_epoch(epoch, history):
        if epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    module.train(module.make_model(), state_path=sys.argv[2], on_epoch=on_epoch)
"""


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
def test_a_process_killed_by_the_system_resumes_to_the_same_weights(tmp_path: Path) -> None:
    state = tmp_path / "state.safetensors"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), __file__, str(state)],
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    whole, resumed = make_model(), make_model()
    assert train(resumed, state_path=state) == train(whole)
    assert same(whole, resumed)


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first, second = make_model(), make_model()
    history = train(first, state_path=tmp_path / "state.safetensors")
    again = train(
        second,
        state_path=tmp_path / "state.safetensors",
        epoch_batches=lambda epoch: pytest.fail("trained"),
    )
    assert again == history
    assert same(first, second)


def test_the_state_is_one_whole_file_of_plain_tensors(tmp_path: Path) -> None:
    state = tmp_path / "state.safetensors"
    train(make_model(), state_path=state)
    assert [path.name for path in tmp_path.iterdir()] == [state.name]
    assert {name.split(".")[0] for name in load_file(state)} == {"model", "best", "optimizer"}


def test_a_state_of_another_config_is_refused_with_the_keys(tmp_path: Path) -> None:
    state = tmp_path / "state.safetensors"
    train(make_model(), state_path=state)
    changed = dataclasses.replace(CONFIG, lr=3e-3, epochs=9)
    with pytest.raises(InputError, match=r"state\.safetensors: .*differing keys: epochs, lr\."):
        train(make_model(), changed, state_path=state)


def test_a_state_may_move_to_another_device(tmp_path: Path) -> None:
    state = tmp_path / "state.safetensors"
    train(make_model(), state_path=state)
    train(make_model(), dataclasses.replace(CONFIG, accelerator="auto"), state_path=state)


def test_a_state_of_another_model_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state.safetensors"
    train(make_model(), state_path=state)
    with pytest.raises(InputError, match=r"state\.safetensors: holds the state of another model"):
        train(nn.Sequential(nn.Linear(6, 3)), state_path=state)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 some pickle"])
def test_a_broken_state_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    state = tmp_path / "state.safetensors"
    state.write_bytes(content)
    with pytest.raises(
        InputError, match=r"state\.safetensors: cannot be read .* Fix: remove the file"
    ):
        train(make_model(), state_path=state)


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_loss_that_is_not_finite_stops_with_its_place(value: str) -> None:
    def bad(epoch: int) -> list[tuple[Tensor, Tensor]]:
        found = batches(epoch)
        if epoch == 1:
            found[2] = (found[2][0], found[2][1] * float(value))
        return found

    with pytest.raises(InputError, match=rf"the training loss is {value} in epoch 2, step 3"):
        train(make_model(), epoch_batches=bad)


def test_no_batches_are_an_error() -> None:
    with pytest.raises(InputError, match="no training batch"):
        train(make_model(), epoch_batches=lambda epoch: [])


def test_batches_may_come_from_a_generator() -> None:
    first, second = make_model(), make_model()
    train(first)
    train(second, epoch_batches=lambda epoch: (batch for batch in batches(epoch)))
    assert same(first, second)


def test_mixed_precision_trains_and_resumes(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, precision="bf16-mixed")
    whole, resumed = make_model(), make_model()
    train(whole, config)
    with pytest.raises(Killed):
        train(make_model(), config, state_path=tmp_path / "s.safetensors", on_epoch=killed_after(1))
    train(resumed, config, state_path=tmp_path / "s.safetensors")
    assert same(whole, resumed)
    assert all(value.dtype == torch.float32 for value in whole.parameters())


def test_a_device_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="no CUDA device"):
        train(make_model(), dataclasses.replace(CONFIG, accelerator="cuda"))


class Pair(NamedTuple):
    left: Tensor
    right: list[Tensor]


@dataclass(frozen=True)
class Record:
    values: Tensor
    name: str


def test_batches_of_any_shape_move_to_the_device() -> None:
    moved = to_device(Pair(torch.zeros(2), [torch.ones(1)]), torch.device("meta"))
    assert isinstance(moved, Pair)
    assert moved.left.device.type == moved.right[0].device.type == "meta"
    record = to_device(Record(torch.zeros(2), "a"), torch.device("meta"))
    assert (record.values.device.type, record.name) == ("meta", "a")


@pytest.mark.parametrize(
    ("key", "value", "fix"),
    [
        ("epochs", 0, "at least 1"),
        ("lr", 0.0, "above 0"),
        ("lr", float("nan"), "finite number"),
        ("seed", -1, "at least 0"),
        ("warmup_fraction", 1.0, "below 1"),
        ("average", 1.0, "below 1"),
        ("average", -0.1, "at least 0"),
        ("layer_decay", 0.0, "above 0"),
        ("layer_decay", 1.5, "at most 1"),
    ],
)
def test_impossible_settings_are_refused(key: str, value: float, fix: str) -> None:
    with pytest.raises(InputError, match=rf"'{key}' is {value}.* Fix: give .*{fix}"):
        dataclasses.replace(CONFIG, **{key: value})


@pytest.mark.parametrize(
    ("key", "choices"),
    [
        ("optimizer", "'adamw' or 'adam'"),
        ("schedule", "'cosine' or 'constant'"),
        ("keep", "'best' or 'last'"),
    ],
)
def test_unknown_choices_are_refused(key: str, choices: str) -> None:
    with pytest.raises(InputError, match=rf"'{key}' is 'sgd'.* Fix: choose one of {choices}"):
        dataclasses.replace(CONFIG, **{key: "sgd"})
