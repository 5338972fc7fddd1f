"""Say in words how far some work is, how fast it goes, and how long it will take."""

from __future__ import annotations

_BYTES = ("B", "kB", "MB", "GB", "TB")
_MINUTE_S, _HOUR_S, _DAY_S = 60.0, 3600.0, 86400.0


def progress_line(
    what: str,
    *,
    done: int,
    total: int | None,
    unit: str,
    elapsed_s: float,
    failed: int = 0,
    initial: int = 0,
) -> str:
    """Describe how far some work is.

    Parameters
    ----------
    what
        Name of the work.
    done, total
        Number of items that are done, failed ones included, and of all; None if that is unknown.
    unit
        Noun of one item; ``B`` stands for bytes.
    elapsed_s
        Seconds since the work began.
    failed
        Number of items that failed.
    initial
        Number of items that were done before.

    Examples
    --------
    >>> progress_line("encode", done=30, total=120, unit="slide", elapsed_s=600, failed=2)
    'encode: 30 of 120 slides, 2 failed, 3.0 slides a minute, 30 min to go'
    >>> progress_line("download", done=2_000_000, total=None, unit="B", elapsed_s=1)
    'download: 2.0 MB, 2.0 MB a second'
    """
    rate = (done - initial) / elapsed_s if elapsed_s > 0 else 0.0
    if unit == "B":
        amount = _bytes(done) if total is None else f"{_bytes(done)} of {_bytes(total)}"
        parts = [amount, f"{_bytes(rate)} a second"]
    else:
        noun = unit if (done if total is None else total) == 1 else plural(unit)
        amount = f"{done} {noun}" if total is None else f"{done} of {total} {noun}"
        parts = [amount]
        if failed:
            parts.append(f"{failed} failed")
        if rate > 0:
            parts.append(describe_rate(rate, unit))
    if total is not None and rate > 0 and total > done:
        parts.append(f"{describe_duration((total - done) / rate)} to go")
    return f"{what or 'work'}: {', '.join(parts)}"


def describe_rate(per_second: float, unit: str) -> str:
    """Return a rate in the unit of time that gives a readable number.

    Examples
    --------
    >>> describe_rate(0.01, "slide")
    '36.0 slides an hour'
    """
    for seconds, name in ((1.0, "a second"), (_MINUTE_S, "a minute"), (_HOUR_S, "an hour")):
        if per_second * seconds >= 1 or name == "an hour":
            break
    return f"{per_second * seconds:.1f} {plural(unit)} {name}"


def plural(noun: str) -> str:
    """Return the plural of the name of an item.

    Examples
    --------
    >>> plural("slide"), plural("batch"), plural("epoch")
    ('slides', 'batches', 'epochs')
    """
    return f"{noun}es" if noun.endswith(("tch", "s")) else f"{noun}s"


def describe_duration(seconds: float) -> str:
    """Return a duration in words.

    Examples
    --------
    >>> [describe_duration(seconds) for seconds in (45, 600, 9000, 200_000)]
    ['45 s', '10 min', '2.5 h', '2.3 days']
    """
    if seconds < 1.5 * _MINUTE_S:
        return f"{seconds:.0f} s"
    if seconds < 1.5 * _HOUR_S:
        return f"{seconds / _MINUTE_S:.0f} min"
    if seconds < 2 * _DAY_S:
        return f"{seconds / _HOUR_S:.1f} h"
    return f"{seconds / _DAY_S:.1f} days"


def _bytes(count: float) -> str:
    power = 0
    while count >= 1000 and power < len(_BYTES) - 1:
        count, power = count / 1000, power + 1
    return f"{count:.1f} {_BYTES[power]}"
