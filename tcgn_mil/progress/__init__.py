"""Progress of long work: one bar on a terminal, and a line now and then in a log file."""

from tcgn_mil.progress.bars import LOGGER, Progress, tell, without_progress
from tcgn_mil.progress.wording import describe_duration, describe_rate, plural, progress_line

__all__ = [
    "LOGGER",
    "Progress",
    "describe_duration",
    "describe_rate",
    "plural",
    "progress_line",
    "tell",
    "without_progress",
]
