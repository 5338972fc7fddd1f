"""Arrange the help of a verb: options in groups, and how commands end.

The group of an option follows from its name, which means the same in every verb.
"""

from __future__ import annotations

from typing import Any

import typer
import typer.core

INPUTS, MODEL, TRAINING, OUTPUT, ADVANCED = PANELS = (
    "Inputs",
    "Model",
    "Training and testing",
    "Output",
    "Advanced",
)

EXIT_CODES = (
    "Exit codes: 0 if all went well; 1 if some slides, sections or files failed, which"
    " failures.csv lists; 2 if the input or an option is wrong, or nothing could be processed; 130"
    " after Ctrl-C."
)

_GROUPS = {
    INPUTS: (
        "slides features cohort spots_dir tiles clinical predicted measured covariates covariate"
        " genes gene section spot image slide folds mpp patients unit layout expression files file"
        " source sources run runs signatures sets cell_types endpoint targets recursive project"
        " cases slide_column patient_column time_column censored_time_column event_column"
        " entry_column time_unit event_coding event_values months sheet gene_ids gene_map"
        " preparation layer folder verb"
    ),
    MODEL: (
        "model kind encoder slide_model encoder_model pooling encoder_argument pretrained untrained"
        " patch_px patch_mpp stain stain_reference"
    ),
    TRAINING: (
        "val_section test_section group_by preserve_sites protocol preset missing_genes"
        " encoder_train compare adjust_for follow zero_unknown horizon seed"
    ),
    OUTPUT: (
        "out maps map_gene map_signatures map_origin thumbnails table_format keep_features title to"
        " private licence data_licence names slides_out origin top"
    ),
}
_PANEL_OF = {name: panel for panel, names in _GROUPS.items() for name in names.split()}


class ExitWithResult(typer.Exit):
    """End of a verb with an exit code and values that ``--json`` prints."""

    def __init__(self, code: int, result: Any) -> None:
        super().__init__(code)
        self.result = result


class VerbCommand(typer.core.TyperCommand):
    """A verb whose options are shown in groups, and whose ``--out`` the session learns."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        for parameter in self.params:
            if isinstance(parameter, typer.core.TyperOption):
                parameter.rich_help_panel = _PANEL_OF.get(parameter.name or "", ADVANCED)
        # rich shows the groups in the order in which they appear.
        order = {panel: number for number, panel in enumerate(PANELS)}
        self.params.sort(key=lambda each: order.get(getattr(each, "rich_help_panel", ""), -1))

    def invoke(self, ctx: Any) -> Any:  # the type of a context depends on the version of typer
        """Tell the session what is about to run, and run it."""
        session = ctx.find_root().obj
        if session is None:
            return super().invoke(ctx)
        session.begin(ctx.info_name or "", ctx.params.get("out"))
        try:
            session.result = super().invoke(ctx)
        except ExitWithResult as ended:
            session.result = ended.result
            raise
        return session.result
