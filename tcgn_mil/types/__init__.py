"""Types of the data that flow between stages: tiles, genes, folds, survival times and units.

The modules import numpy alone, so that every other folder can use them; pandas is imported only
inside functions. Letters in shapes: N tiles, S spots, G genes, M patients, D features.
"""
