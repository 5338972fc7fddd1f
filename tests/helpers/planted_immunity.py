"""Genes and patients of a small cohort in which immune genes follow a hidden infiltration."""

from __future__ import annotations

TLS = (
    "CCL2",
    "CCL3",
    "CCL4",
    "CCL5",
    "CCL8",
    "CCL18",
    "CCL19",
    "CCL21",
    "CXCL9",
    "CXCL10",
    "CXCL11",
    "CXCL13",
)


ODD = ("<script>alert(1)</script>", "$x_{", "../../GENE")


GENES = (*TLS, "HLA_A", *ODD, *(f"NULL{number}" for number in range(24)))


PATIENTS = [f"P{number:03d}" for number in range(90)]
