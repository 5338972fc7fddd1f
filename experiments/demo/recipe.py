"""Settings of the demo's stages, which were chosen on cohorts of seeds that it does not show.

The recipe of the encoder is the one that did best on validation sections of real data
(``configs/spots_recipe.yaml``): sequencing depth is taken out of the targets, which are projected
on as many components as there are tissue programmes, and the loss is the correlation.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tcgn_mil.errors import InputError
from tcgn_mil.experiments.associate.config import AssociationConfig
from tcgn_mil.experiments.demo.synthetic import SyntheticPaths
from tcgn_mil.experiments.predict.config import PredictConfig
from tcgn_mil.experiments.slide_level.config import FinetuneConfig, SlideCvConfig
from tcgn_mil.experiments.spot_level.config import SpotConfig, TargetConfig
from tcgn_mil.experiments.survive.config import SurviveConfig
from tcgn_mil.settings.encoder import EncoderOptions
from tcgn_mil.settings.risk_score import RiskConfig
from tcgn_mil.settings.slide_model import MilConfig
from tcgn_mil.settings.training import TrainingConfig

# Five tissue regions and two tumour subtypes, each with genes that follow it.
_PROGRAMMES = 7
# Networks and resamples of the steps that are run small, to show the verb and not to find much.
_SMALL_NETWORK, _SMALL_PX = "resnet10t", 64
_FOLDS = 4


@dataclass(frozen=True)
class Effort:
    """Size of the steps that take long.

    Attributes
    ----------
    epochs
        Epochs of the encoder. tcgn_tiny learns the colours of tissue first, and the nuclei that
        morphology genes follow only after several epochs. Its loss then falls at once, and the
        epochs that remain have to be enough to make use of that.
    cv_epochs
        Epochs of ``spot-cv``.
    refits
        Refits of ``slide-cv`` on permuted labels.
    slide_epochs
        Largest number of epochs of the slide models.
    map_programmes
        Programmes of which one gene is drawn on each section and slide.
    explain_steps
        Steps of the integrated gradients.
    replicates
        Bootstrap resamples of all intervals.
    """

    epochs: int
    cv_epochs: int = 2
    refits: int = 5
    slide_epochs: int = 150
    map_programmes: tuple[str, ...] = ("IMMUNE", "TUMORA", "STROMA", "NULL")
    explain_steps: int = 64
    replicates: int = 1000


_EFFORTS = {
    "test": Effort(
        epochs=1,
        cv_epochs=1,
        refits=2,
        slide_epochs=10,
        map_programmes=("IMMUNE", "TUMORA"),
        explain_steps=16,
        replicates=50,
    ),
    "demo": Effort(epochs=10),
    "study": Effort(epochs=20, refits=50),
}


def effort_of(preset: str) -> Effort:
    """Return the size of the steps for a preset of the cohort.

    Raises
    ------
    InputError
        If there is no preset of this name.
    """
    if preset not in _EFFORTS:
        raise InputError(f"unknown preset {preset!r}", fix="use demo, study or test")
    return _EFFORTS[preset]


@dataclass(frozen=True)
class Recipe:
    """Configs of the demo's stages.

    Attributes
    ----------
    out
        Folder of the demo.
    cohort
        The synthetic cohort.
    effort
        Size of the steps.
    seed
        Seed of training and of the folds.
    """

    out: Path
    cohort: SyntheticPaths
    effort: Effort
    seed: int

    @property
    def encoder(self) -> Path:
        """Checkpoint of the pretrained encoder."""
        return self.out / "encoder" / "encoder.safetensors"

    @property
    def map_genes(self) -> tuple[str, ...]:
        """Genes whose maps are drawn."""
        return tuple(f"SYN_{programme}_01" for programme in self.effort.map_programmes)

    def pretrain(self, test_sections: tuple[str, ...]) -> SpotConfig:
        """Return the config of the encoder that all later stages use."""
        return SpotConfig(
            spots=str(self.out / "spots"),
            test_sections=test_sections,
            model="tcgn_tiny",
            views=1,
            map_genes=self.map_genes,
            # All settings are fixed, so that the validation part trains as well.
            validation="join",
            target=TargetConfig(remove_depth=True, rank=_PROGRAMMES),
            training=TrainingConfig(
                epochs=self.effort.epochs,
                batch_size=32,
                lr=2e-3,
                loss="correlation",
                average=0.99,
                seed=self.seed,
            ),
        )

    def spot_cv(self, folds: Path) -> SpotConfig:
        """Return the config of a cross-validation with a small network and few epochs."""
        return SpotConfig(
            spots=str(self.out / "spots"),
            model=_SMALL_NETWORK,
            encoder_options=EncoderOptions(untrained=True),
            input_px=_SMALL_PX,
            folds=str(folds),
            views=1,
            map_genes=self.map_genes[:1],
            baselines=False,
            validation="join",
            target=TargetConfig(remove_depth=True, rank=_PROGRAMMES),
            training=TrainingConfig(
                epochs=self.effort.cv_epochs,
                batch_size=32,
                lr=2e-3,
                loss="correlation",
                seed=self.seed,
            ),
        )

    def finetune(self) -> FinetuneConfig:
        """Return the config of the slide models.

        With few patients the model does best to start as the zero-shot prediction, and to leave it
        slowly: over many epochs, with strong weight decay, and with the average of the weights,
        which varies less than the weights of any single epoch.
        """
        return FinetuneConfig(
            cohort=str(self.out / "cohort.h5ad"),
            features=str(self.out / "features"),
            encoder=str(self.encoder),
            seed=self.seed,
            n_folds=_FOLDS,
            replicates=self.effort.replicates,
            model=MilConfig(form="additive", dropout=0.2),
            training=TrainingConfig(
                epochs=self.effort.slide_epochs,
                batch_size=16,
                lr=1e-3,
                weight_decay=0.5,
                average=0.97,
                patience=40,
                loss="mix",
            ),
        )

    def slide_cv(self) -> SlideCvConfig:
        """Return the config of slide models on the areas of tissue that another tool measured."""
        return SlideCvConfig(
            cohort=str(self.out / "cohort.h5ad"),
            features=str(self.out / "area-features"),
            seed=self.seed,
            n_folds=_FOLDS,
            refits=self.effort.refits,
            replicates=self.effort.replicates,
            group_by="patient",
        )

    def predict(self) -> PredictConfig:
        """Return the config that predicts every patient by the model that did not see it."""
        return PredictConfig(
            str(self.out / "slide-model"),
            str(self.out / "features"),
            str(self.out / "tiles"),
            self.map_genes,
        )

    def associate(self) -> AssociationConfig:
        """Return the config that relates predicted programmes to what else is known."""
        return AssociationConfig(
            predicted=str(self.out / "slide-model" / "out_of_fold.h5ad"),
            covariates=str(self.cohort.clinical),
            covariate=("leukocyte_fraction", "tumour_purity", "age"),
            adjust_for=("tumour_purity",),
            sets=(str(self.cohort.programmes),),
            # The genes of the cohort are synthetic; the shipped sets hold none of them.
            shipped_sets=False,
            seed=self.seed,
        )

    def survive(self) -> SurviveConfig:
        """Return the config that predicts survival from the programmes, beside age and stage."""
        return SurviveConfig(
            clinical=str(self.out / "clinical.csv"),
            predicted=str(self.out / "slide-model" / "out_of_fold.h5ad"),
            # Few patients have stage IV, and a level that separates the events cannot be fitted.
            covariates=("age",),
            signatures=str(self.cohort.programmes),
            n_folds=_FOLDS,
            seeds=(self.seed,),
            replicates=self.effort.replicates,
            times_days=(365.25, 1095.75),
            screen=False,
            risk=RiskConfig(features="signatures"),
        )
