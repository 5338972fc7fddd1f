"""Tiling of slides: tissue, grid, quality, stain normalisation, and pictures to check them by."""
