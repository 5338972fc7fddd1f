"""Batches for training and prediction: spots, bags of tile features, and bags of tile pixels.

Every draw (order, sample of tiles, augmentation) depends on the seed and the epoch alone, so that a
run that was interrupted continues with the same batches.
"""
