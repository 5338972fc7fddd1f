"""Lists of genes: files of the user, and lists that come with the package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tcgn_mil.errors import InputError
from tcgn_mil.io.gene_list import read_gene_list
from tcgn_mil.panels import shipped_panels


def test_each_shipped_list_states_its_genes_and_origin() -> None:
    assert set(shipped_panels()) == {"tcgn-her2st"}
    for name, path in shipped_panels().items():
        facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        assert facts["genes"] == len(read_gene_list(name).genes)
        assert facts["source"]
        assert facts["origin"]
        assert facts["licence"]


@pytest.mark.realdata
def test_shipped_list_is_that_of_the_published_model(real_data: Path) -> None:
    file = real_data / "her2st" / "gene_lists" / "tcgn_her2_785_genes.txt"
    assert read_gene_list("tcgn-her2st").genes == read_gene_list(file).genes


def test_comments_and_empty_lines_are_no_genes(tmp_path: Path) -> None:
    path = tmp_path / "genes.txt"
    path.write_text("# immune\nGZMA\n\nPRF1\n", encoding="utf-8")
    assert read_gene_list(path).genes == ("GZMA", "PRF1")


def test_unknown_name_says_which_lists_there_are() -> None:
    with pytest.raises(InputError, match=r"no such gene list.*tcgn-her2st"):
        read_gene_list("tcgn-skin")
