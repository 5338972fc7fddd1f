"""One example of each verb, which its help shows. A test parses all of them."""

from __future__ import annotations

EXAMPLES: dict[str, str] = {
    "demo": "tcgn-mil demo --out demo",
    "download": (
        "tcgn-mil download gdc --project TCGA-BRCA --slides diagnostic --expression star --out tcga"
    ),
    "spots": "tcgn-mil spots her2st --out spots",
    "pretrain": "tcgn-mil pretrain --spots spots --out encoder --test-section A1",
    "spot-cv": "tcgn-mil spot-cv --spots spots --out spot-cv --group-by patient",
    "encoders": "tcgn-mil encoders",
    "tile": "tcgn-mil tile slides --encoder uni2-h --out tiles",
    "encode": "tcgn-mil encode slides --tiles tiles --encoder uni2-h --out features",
    "export-tiles": "tcgn-mil export-tiles tiles --format geojson --out qupath",
    "import-features": (
        "tcgn-mil import-features clam_features --encoder uni2-h --patch-px 256 "
        "--patch-mpp 0.5 --mpp 0.25 --out features"
    ),
    "bulk": "tcgn-mil bulk expression.csv --unit tpm --slides slides --out cohort.h5ad",
    "clinical": (
        "tcgn-mil clinical clinical.tsv --format cbioportal --endpoint OS --out clinical.csv"
    ),
    "finetune": (
        "tcgn-mil finetune --cohort cohort.h5ad --features features --encoder uni2-h "
        "--out slide-model"
    ),
    "slide-cv": (
        "tcgn-mil slide-cv --cohort cohort.h5ad --features features --group-by both --out slide-cv"
    ),
    "predict": (
        "tcgn-mil predict --model slide-model --slides new_slides --encoder uni2-h "
        "--out predictions"
    ),
    "explain": (
        "tcgn-mil explain --gene CD74 --encoder encoder/encoder.safetensors --spots "
        "spots --out explanations"
    ),
    "associate": "tcgn-mil associate --predicted slide-cv/out_of_fold.h5ad --out association",
    "survive": (
        "tcgn-mil survive --clinical clinical.csv --endpoint OS --predicted "
        "slide-cv/out_of_fold.h5ad --out survival"
    ),
    "publish": "tcgn-mil publish slide-model --out published --licence cc-by-4.0",
    "export-predictions": "tcgn-mil export-predictions slide-cv --out exported",
    "export-spatialdata": "tcgn-mil export-spatialdata spots tiles predictions --out spatialdata",
    "report": "tcgn-mil report slide-model predictions survival --out report.html",
    "status": "tcgn-mil status features",
    "doctor": "tcgn-mil doctor",
    "config": "tcgn-mil config finetune > finetune.yaml",
}
