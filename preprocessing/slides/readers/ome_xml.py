"""Read the images that the OME-XML of a TIFF describes (Goldberg et al., Genome Biology 2005).

The XML comes from a file of unknown origin. It is parsed without a document type, so that no entity
can be defined in it: neither a bomb of nested entities nor one that reads another file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.parsers import expat

# Micrometres in each unit of length of the OME schema. OME's default is µm. The micro sign and the
# Greek letter mu are two different characters.
UM_PER_UNIT = {
    **dict.fromkeys(("\u00b5m", "\u03bcm", "um", "micron", "microns", "micrometer"), 1.0),
    "pm": 1e-6,
    "nm": 1e-3,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "in": 25_400.0,
}
_MAX_XML = 64 * 2**20


@dataclass
class OmeImage:
    """One image of an OME-TIFF.

    Attributes
    ----------
    name
        Name of the image; may be empty.
    pixel_um
        Width and height of a pixel in micrometres; None if one is missing or in no unit of length.
    channels
        Names of the channels in lower case.
    """

    name: str
    pixel_um: tuple[float, float] | None = None
    channels: list[str] = field(default_factory=list)


class _DocumentTypeError(Exception):
    """The XML declares a document type, which OME-XML never does."""


def read_ome_xml(text: str) -> list[OmeImage]:
    """Read the images of an OME-XML text, in its order.

    Parameters
    ----------
    text
        The XML.

    Returns
    -------
    list of OmeImage
        Those that were read before the first error, if the XML is damaged. Empty if it declares a
        document type.

    Examples
    --------
    >>> xml = (
    ...     "<OME><Image Name='a'><Pixels PhysicalSizeX='0.5' PhysicalSizeXUnit='&#181;m'"
    ...     " PhysicalSizeY='500' PhysicalSizeYUnit='nm'/></Image></OME>"
    ... )
    >>> read_ome_xml(xml)[0].pixel_um
    (0.5, 0.5)
    """
    images: list[OmeImage] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        name = tag.rpartition(":")[2]
        if name == "Image":
            images.append(OmeImage(attributes.get("Name", "")))
        elif name == "Pixels" and images and images[-1].pixel_um is None:
            images[-1].pixel_um = _pixel_um(attributes)
        elif name == "Channel" and images:
            images[-1].channels.append(attributes.get("Name", "").strip().lower())

    def refuse(*_: object) -> None:
        raise _DocumentTypeError

    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = refuse
    try:
        # The text is decoded already, whatever encoding its declaration names.
        parser.Parse(text[:_MAX_XML].encode("utf-8", "replace"), True)
    except _DocumentTypeError:
        return []
    except expat.ExpatError:
        pass
    return images


def _pixel_um(attributes: dict[str, str]) -> tuple[float, float] | None:
    sides = []
    for axis in ("X", "Y"):
        unit = attributes.get(f"PhysicalSize{axis}Unit", "um").strip()
        try:
            side = float(attributes[f"PhysicalSize{axis}"]) * UM_PER_UNIT[unit]
        except (KeyError, ValueError):
            return None
        if not 0 < side < float("inf"):
            return None
        sides.append(side)
    return sides[0], sides[1]
