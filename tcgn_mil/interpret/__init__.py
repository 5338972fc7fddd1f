"""Explain the prediction of a network for one image.

- :func:`grad_cam` shows which positions of the last feature map speak for an output.
- :func:`integrated_gradients` shows how much each pixel adds to an output.
- :func:`learned_graphs` shows which patches TCGN has linked.

The first two are Captum's (Kokhlikyan et al., arXiv:2009.07896) and work on any image model.
Nothing here changes a model.
"""

from tcgn_mil.interpret.class_activation import grad_cam, has_last_map, last_map, upsample
from tcgn_mil.interpret.patch_graphs import (
    LearnedGraph,
    graph_blocks,
    held_graph,
    learned_graphs,
)
from tcgn_mil.interpret.path_attribution import (
    INTEGRATION_STEPS,
    Attribution,
    integrated_gradients,
    white_glass,
)

__all__ = [
    "INTEGRATION_STEPS",
    "Attribution",
    "LearnedGraph",
    "grad_cam",
    "has_last_map",
    "graph_blocks",
    "held_graph",
    "integrated_gradients",
    "last_map",
    "learned_graphs",
    "upsample",
    "white_glass",
]
