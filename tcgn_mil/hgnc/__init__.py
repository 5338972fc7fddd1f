"""Approved gene symbols of HGNC, their previous symbols and their ids, shipped with the package.

The table is derived from data of the HUGO Gene Nomenclature Committee (Seal et al., Nucleic Acids
Research 2023;51:D1003), which HGNC gives to the public domain (CC0). ``approved_genes.json`` states
where it comes from and its date. ``python -m tcgn_mil.preprocessing.bulk.make_gene_map`` renews it
from a download of genenames.org.
"""
