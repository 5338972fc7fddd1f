"""Read sections from stores of SpatialData (Marconato et al., Nature Methods 2024).

A store is a folder ``.zarr`` with images, shapes, points and tables. A table says which of the
shapes, called its regions, its rows belong to; each region is a section. Elements have
transformations to named coordinate systems, through which spots are brought to the pixels of an
image.
"""
