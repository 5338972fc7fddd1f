"""Recognise gene symbols that a spreadsheet turned into dates, and list the genes they may be.

Spreadsheets read SEPT2 as 2 September and store it as a date. What a file then holds depends on the
language and on the export: ``2-Sep``, ``Sep-02``, ``02/09/2019``, ``2019-09-02 00:00:00``,
``2.Sep.19`` or the number of days since 1900, ``43710``. A date does not tell its gene: MARCH1 (now
MARCHF1) and MARC1 (now MTARC1) both become 1 March. HGNC therefore renamed these genes in 2020
(Bruford et al., Nature Genetics 2020, 52:754), but older tables still hold the old symbols.
"""

from __future__ import annotations

import datetime
import re

# First letters of the months in English, German, French, Spanish, Italian and Portuguese.
_MONTHS = {
    1: "jan|ene|gen|janv",
    2: "feb|fév|fev|févr|fevr",
    3: "mar|mär|mrz|mars|märz|maerz",
    4: "apr|avr|abr|avril",
    5: "may|mai|mag|mayo",
    6: "jun|juin|giu",
    7: "jul|juil|lug",
    8: "aug|août|aout|ago",
    9: "sep|sept|set",
    10: "oct|okt|ott|out",
    11: "nov",
    12: "dec|dez|déc|dic",
}
_MONTH_OF = {word: month for month, words in _MONTHS.items() for word in words.split("|")}
_WORD = rf"(?P<month>{'|'.join(sorted(_MONTH_OF, key=len, reverse=True))})\.?"
_TIME = r"(?:[ T]\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?"
_WORDED = [
    re.compile(rf"(?P<day>\d{{1,2}})[-./ ]{_WORD}(?:[-./ ](?:\d{{2}}|\d{{4}}))?", re.IGNORECASE),
    re.compile(rf"{_WORD}[-./ ](?P<day>\d{{1,2}})(?:[-./, ]+\d{{4}})?", re.IGNORECASE),
    re.compile(rf"{_WORD}[-./ ](?:19|20)(?P<day>\d{{2}})", re.IGNORECASE),
]
_ISO = re.compile(rf"\d{{4}}-(?P<month>\d{{1,2}})-(?P<day>\d{{1,2}}){_TIME}")
_NUMBERS = re.compile(
    rf"(?P<first>\d{{1,2}})(?P<sep>[/.-])(?P<second>\d{{1,2}})(?P=sep)(?:\d{{4}}|\d{{2}}){_TIME}"
)
# Days since 1900 of the years 2000 to 2050. Spreadsheets add the current year to a day and month.
_SERIAL = re.compile(r"(?P<days>\d{5})(?:\.0+)?")
_SERIALS = (36526, 55153)
_DAY_ZERO = datetime.date(1899, 12, 30)


def genes_of_date(name: str, *, serials: bool = False) -> tuple[str, ...] | None:
    """Return the approved symbols that a date may stand for.

    Parameters
    ----------
    name
        Name of a gene in a table.
    serials
        Whether a number of five digits is a date as well. It may be an Entrez number in a table
        that names genes by these.

    Returns
    -------
    tuple of str or None
        None if the name is not a date. An empty tuple if it is one, but of no gene that is known to
        be changed in this way.

    Examples
    --------
    >>> genes_of_date("1-Mar"), genes_of_date("2019-09-02 00:00:00"), genes_of_date("TP53")
    (('MARCHF1', 'MTARC1'), ('SEPTIN2',), None)
    >>> genes_of_date("44806", serials=True)
    ('SEPTIN2',)
    """
    name = name.strip()
    for pattern in _WORDED:
        if match := pattern.fullmatch(name):
            return _genes(_MONTH_OF[match["month"].lower()], int(match["day"]))
    if match := _ISO.fullmatch(name):
        return _genes(int(match["month"]), int(match["day"]))
    if match := _NUMBERS.fullmatch(name):
        first, second = int(match["first"]), int(match["second"])
        # 01/03 is 1 March in Europe and 3 January in America.
        if 1 <= first <= 31 and 1 <= second <= 31 and min(first, second) <= 12:
            return tuple(dict.fromkeys((*_genes(second, first), *_genes(first, second))))
    if serials and (match := _SERIAL.fullmatch(name)):
        days = int(match["days"])
        if _SERIALS[0] <= days <= _SERIALS[1]:
            date = _DAY_ZERO + datetime.timedelta(days=days)
            return _genes(date.month, date.day)
    return None


def _genes(month: int, day: int) -> tuple[str, ...]:
    if month == 3:
        genes = [f"MARCHF{day}"] * (1 <= day <= 11) + [f"MTARC{day}"] * (1 <= day <= 2)
    elif month == 9:
        genes = [f"SEPTIN{day}"] * (1 <= day <= 14 and day != 13) + ["SELENOF"] * (day == 15)
    elif month == 12:
        genes = ["DELEC1"] * (day == 1)
    else:
        genes = []
    return tuple(genes)
