"""Bring the spots of a SpatialData store to the pixels of its image.

Spots and images have affine transformations to named coordinate systems. With ``S`` the 3 x 3
matrix of the spots and ``A`` that of the image into a system that both have, a spot at ``p`` lies
at the pixel ``A^-1 S p``. A stretched image would have no single resolution and is refused.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tcgn_mil.errors import InputError
from tcgn_mil.preprocessing.sections.readers.spatial_store.contents import Region, image_names
from tcgn_mil.preprocessing.slides.readers.ome_zarr import OmeZarrSlide
from tcgn_mil.preprocessing.slides.readers.plain import MAX_IMAGE_PX
from tcgn_mil.text import preview

_MAX_UNEVEN = 1.05  # a transformation may turn and mirror an image, but hardly stretch it
_ALIKE = 0.02  # relative; between the extents or scales of two images
_IMAGE_FIX = "give one with --image, or in the column image of a table, for example {path}"


@dataclass(frozen=True)
class PlacedImage:
    """An image of the store that shares a coordinate system with the spots.

    Attributes
    ----------
    path
        Folder of the image.
    system
        Coordinate system that it shares with the spots.
    to_system
        (3, 3) matrix from its pixels to the coordinate system.
    size
        Width and height in pixels.
    notes
        Facts about the image that a user should know.
    """

    path: Path
    system: str
    to_system: NDArray[np.float64]
    size: tuple[int, int]
    notes: tuple[str, ...] = ()

    @property
    def unit(self) -> float:
        """Side of a pixel in units of the coordinate system."""
        return float(np.sqrt(abs(np.linalg.det(self.to_system[:2, :2]))))

    def extent(self) -> NDArray[np.float64]:
        """Return the least and the greatest x and y of its corners in the coordinate system."""
        width, height = self.size
        corners = np.array([[0, 0, 1], [width, 0, 1], [0, height, 1], [width, height, 1]])
        placed = (corners @ self.to_system.T)[:, :2]
        return np.concatenate([placed.min(axis=0), placed.max(axis=0)])


def choose_image(data: Any, region: Region, given: Path | None) -> tuple[PlacedImage, list[str]]:
    """Choose the image of a section.

    Parameters
    ----------
    data
        The opened store.
    region
        The section.
    given
        Folder of an image in the store that the user chose, or None.

    Returns
    -------
    image : PlacedImage
        Of several images of one place the finest.
    notes : list of str
        Names of the images that are not read, and facts about the one that is.

    Raises
    ------
    InputError
        If there is no RGB image in a coordinate system of the spots, or if there are
        several of other places or of the same resolution.
    """
    systems = set(transformations(data[region.name]))
    slides: dict[str, OmeZarrSlide] = {}
    unfit = []
    for name in [given.name] if given is not None else image_names(region.store):
        if name not in data.images or not systems & set(transformations(data.images[name])):
            unfit.append(f"{name} (in no coordinate system of {region.name})")
            continue
        try:
            slide = OmeZarrSlide(region.store / "images" / name, None, 1.0)
        except InputError as error:
            unfit.append(f"{name} ({error.reason})")
            continue
        slide.close()
        # One channel of fluorescence, such as DAPI, is no H&E image.
        if slide.is_grey and given is None:
            unfit.append(f"{name} (has one channel)")
            continue
        slides[name] = slide
    if not slides:
        why = f": {preview(unfit)}" if unfit else ""
        raise InputError(
            f"has no H&E image for {region.name}{why}",
            path=region.store,
            fix="add the image to the store, with a transformation to a coordinate system of the"
            " spots; or give an image file in whose pixels the spots are with --image",
        )
    # Images are compared in a coordinate system that all of them share, if there is one.
    matrices = {name: transformations(data.images[name]) for name in slides}
    common = systems.intersection(*matrices.values())
    images = []
    for name, slide in slides.items():
        system = min(common or systems & set(matrices[name]))
        matrix = matrices[name][system]
        images.append(PlacedImage(slide.path, system, matrix, slide.size, slide.notes))
    if len(images) == 1:
        return images[0], _notes(images[0])
    return _finest(images, region)


def _finest(images: list[PlacedImage], region: Region) -> tuple[PlacedImage, list[str]]:
    """Return the finest of images that show the same place at different resolutions."""
    # The extents are compared in one coordinate system only; more than one is no simple pyramid.
    order = sorted(images, key=lambda image: image.unit)
    extents = np.stack([image.extent() for image in images])
    span = (extents[0, 2:] - extents[0, :2]).max()
    finer = order[1].unit / order[0].unit
    one_place = (
        len({image.system for image in images}) == 1
        and np.abs(extents - extents[0]).max() <= _ALIKE * span
    )
    if not one_place or finer < 1 + _ALIKE:
        raise InputError(
            f"has several images for {region.name}:"
            f" {preview([image.path.name for image in images])}",
            path=region.store,
            fix=_IMAGE_FIX.format(path=order[0].path),
        )
    others = preview([image.path.name for image in order[1:]])
    read = f"the image {order[0].path.name} is read, and not the coarser {others}"
    return order[0], [read, *_notes(order[0])]


def _notes(image: PlacedImage) -> list[str]:
    return [f"{image.path.name}: {note}" for note in image.notes]


def transformations(element: Any) -> dict[str, NDArray[np.float64]]:
    """Return the (3, 3) matrix of an element into each of its coordinate systems."""
    from spatialdata.transformations import get_transformation

    return {
        str(name): np.asarray(each.to_affine_matrix(("x", "y"), ("x", "y")), dtype=np.float64)
        for name, each in get_transformation(element, get_all=True).items()
    }


def pixels_of(
    centres: pd.DataFrame, spots: NDArray[np.float64], image: PlacedImage | None
) -> tuple[NDArray[np.float64], float]:
    """Return centres in pixels of an image.

    Parameters
    ----------
    centres
        Columns x and y of the S spots, as they are stored.
    spots
        (3, 3) matrix of the spots into the coordinate system of the image.
    image
        The image; None if the spots are stored in pixels.

    Returns
    -------
    pixels : (S, 2) float64
    per_unit : float
        Pixels for each unit in which the spots are stored.

    Raises
    ------
    InputError
        If the transformations stretch the image by more than 5 %.
    """
    places = centres[["x", "y"]].to_numpy(dtype=np.float64)
    if image is None:
        return places, 1.0
    try:
        matrix = np.linalg.solve(image.to_system, spots)
        sides = np.linalg.svd(matrix[:2, :2], compute_uv=False)
        uneven = sides.max() / sides.min()
    except (np.linalg.LinAlgError, ZeroDivisionError):
        uneven = np.inf
    if not uneven <= _MAX_UNEVEN:
        raise InputError(
            f"its transformations to {image.system} stretch the image against the spots",
            path=image.path,
            fix="align the image again; it may be turned, mirrored and scaled, but not stretched",
        )
    return places @ matrix[:2, :2].T + matrix[:2, 2], float(np.sqrt(sides.prod()))


def centres_of(element: Any, region: Region) -> pd.DataFrame:
    """Return the centres of shapes, points or labels, indexed by instance, with columns x and y.

    Raises
    ------
    InputError
        If the element is a mask of more pixels than are read, or a shape has no place.
    """
    import spatialdata

    if (shape := _mask_shape(element)) is not None and np.prod(shape) > MAX_IMAGE_PX:
        raise InputError(
            f"its region {region.name} is a mask of {shape} pixels, more than the"
            f" {MAX_IMAGE_PX / 1e6:.0f} million that are read",
            path=region.store,
            fix="annotate the table by the circles or polygons of the cells instead",
        )
    system = next(iter(transformations(element)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the order of the index does not matter for a join
        placed = spatialdata.get_centroids(element, coordinate_system=system).compute()
    # The centroids come in a coordinate system, and are brought back to what is stored.
    back = np.linalg.inv(transformations(element)[system])
    stored = placed[["x", "y"]].to_numpy(dtype=np.float64) @ back[:2, :2].T + back[:2, 2]
    return pd.DataFrame(stored, columns=["x", "y"], index=placed.index)


def _mask_shape(element: Any) -> tuple[int, ...] | None:
    """Return the shape of an image of labels; None for shapes and points."""
    if hasattr(element, "children"):  # a pyramid
        element = next(iter(element["scale0"].values()))
    return tuple(element.shape) if hasattr(element, "dims") else None
