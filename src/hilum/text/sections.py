"""A radiology report cut into its sections by its own headers: findings, impression, indication, ...

The rules are those that the report files of MIMIC-CXR ask for (Johnson et al. 2019, "MIMIC-CXR, a de-identified
publicly available database of chest radiographs with free-text reports"): a header is words in capitals and a colon at
the start of a line; a paragraph of capitals alone is a title; the last paragraph often has no header of its own.
"""

from __future__ import annotations

import re

# Section -> the headers that mean it, in capitals, with single spaces and without the colon.
HEADERS = {
    "report": ("REPORT",),
    "findings": ("FINDINGS", "FINDING", "CHEST FINDINGS"),
    "impression": ("IMPRESSION", "IMPRESSIONS", "IMP", "CONCLUSION", "CONCLUSIONS", "OPINION", "FINAL IMPRESSION"),
    "findings and impression": (
        *("FINDINGS AND IMPRESSION", "FINDINGS/IMPRESSION", "FINDINGS / IMPRESSION", "FINDINGS & IMPRESSION"),
        *("IMPRESSION AND FINDINGS", "IMPRESSION/FINDINGS"),
    ),
    "indication": (
        *("INDICATION", "INDICATIONS", "CLINICAL INDICATION", "REASON FOR EXAM", "REASON FOR EXAMINATION"),
        *("REASON FOR THE EXAM", "REASON FOR THIS EXAMINATION", "REASON FOR STUDY", "REASON", "CLINICAL QUESTION"),
    ),
    "history": (
        *("HISTORY", "CLINICAL HISTORY", "PATIENT HISTORY", "CLINICAL INFORMATION", "CLINICAL DATA"),
        *(
            "HISTORY OF PRESENT ILLNESS",
            "INDICATION AND HISTORY",
            "CLINICAL HISTORY AND INDICATION",
            "CLINICAL STATEMENT",
        ),
    ),
    "comparison": ("COMPARISON", "COMPARISONS", "COMPARISON STUDY", "COMPARISON STUDIES", "COMPARED TO", "PRIOR STUDY"),
    "technique": ("TECHNIQUE", "TECHNIQUES", "PROCEDURE", "PROCEDURE COMMENTS", "VIEWS", "NUMBER OF VIEWS"),
    "examination": ("EXAMINATION", "EXAM", "STUDY", "TYPE OF EXAM", "TYPE OF EXAMINATION", "EXAMINATIONS"),
    "recommendation": ("RECOMMENDATION", "RECOMMENDATIONS", "RECOMMENDATION(S)"),
    "notification": ("NOTIFICATION", "NOTIFICATIONS", "COMMUNICATION", "CRITICAL RESULT", "CRITICAL RESULTS"),
    "wet read": ("WET READ", "WET READ VERSION", "WETREAD", "PRELIMINARY REPORT", "PROVISIONAL FINDINGS IMPRESSION"),
    "addendum": ("ADDENDUM", "ADDENDA", "ADDENDUM REPORT"),
    "summary": ("SUMMARY",),
}
REPORT = "report"  # what stands under no header that is known

_SECTION_OF = {header: section for section, headers in HEADERS.items() for header in headers}
# These go on over paragraphs; the others say one thing, and an unnamed paragraph after it is the report.
_LONG = ("findings", "impression", "findings and impression", "addendum", "summary", "wet read", "recommendation")
# Titles of a part of the file. Like a line of underscores they end whatever section there was.
_BREAKS = ("FINAL REPORT", "FINAL REPORT (REVISED)", "PROVISIONAL REPORT", "PRELIMINARY REPORT", "RADIOLOGY REPORT")
_RULE = re.compile(r"[_=*-]{5,}")
_CAPITALS = re.compile(r"([A-Z][A-Z /&(),.'-]{1,60}?)\s*:")
_KNOWN = "|".join(re.escape(header) for header in sorted(_SECTION_OF, key=len, reverse=True))
_AT_START = re.compile(rf"({_KNOWN})\s*:", re.IGNORECASE)
_INSIDE = re.compile(rf"(?<=[.;:?!)_\d]) +(?=(?:{_KNOWN}) *:)")  # FINDINGS: Clear. IMPRESSION: Normal.
_ADDENDUM = re.compile(r"ADDENDUM\b\s*(?![\w ]*:)")  # has no colon as often as not


def split_sections(report: str) -> dict[str, str]:
    """section name (lower case) -> its text, in the order of the report; lines of a paragraph are joined by spaces.

    Text under no known header is "report": a whole text without headers, or the last paragraph after the short
    sections (indication, history, comparison, ...), which MIMIC's reports often leave without one. A header that is
    not known ("LUNGS:") is part of the text it stands in. A title in capitals is the examination. Sections that occur
    twice are joined by a line break; empty ones are left out.

    Example: `split_sections("INDICATION: Cough.\\n\\nIMPRESSION: Normal.")` is
    `{"indication": "Cough.", "impression": "Normal."}`.
    """
    found: dict[str, list[str]] = {}
    section = REPORT
    has_text = False  # of this section, since its header
    titles = 0
    for paragraph in _list_paragraphs(report):
        if _ends_part(paragraph[0]):
            section, has_text = REPORT, False
            continue
        for place, line in enumerate(paragraph):
            named, text = _read_header(line)
            if named:
                section, has_text = named, bool(text)
                found.setdefault(section, []).extend([text] if text else [])
                continue
            if place == 0 and len(paragraph) == 1 and section == REPORT and _is_title(line) and REPORT not in found:
                found.setdefault("examination", []).append(line)
                titles += 1
                continue
            # A new paragraph, or a header nobody knows ("PORTABLE CHEST:"), ends what says one thing only.
            ends = (place == 0 and has_text) or _CAPITALS.match(line) is not None
            if section not in _LONG and section != REPORT and ends:
                section, has_text = REPORT, False
            parts = found.setdefault(section, [])
            if parts and place > 0 and has_text:
                parts[-1] += f" {line}"
            else:
                parts.append(line)
            has_text = True
    sections = {name: "\n".join(parts) for name, parts in found.items() if parts}
    if titles and len(sections) == 1:  # a text of capitals is no title of something else
        return {REPORT: sections["examination"]}
    return sections


def _list_paragraphs(report: str) -> list[list[str]]:
    """Lines without surrounding blanks, by paragraphs; a known header within a line begins a line of its own."""
    paragraphs: list[list[str]] = [[]]
    for line in report.splitlines():
        words = " ".join(line.split())
        if not words:
            paragraphs.append([])
        elif _ends_part(words):
            paragraphs += [[words], []]
        else:
            paragraphs[-1].extend(_INSIDE.split(words))
    return [paragraph for paragraph in paragraphs if paragraph]


def _ends_part(line: str) -> bool:
    return line.upper() in _BREAKS or _RULE.fullmatch(line) is not None


def _read_header(line: str) -> tuple[str, str]:
    """(section, rest of the line), or ("", line) where no known header begins it."""
    if match := _AT_START.match(line):
        return _SECTION_OF[match[1].upper()], line[match.end() :].strip()
    if line in _SECTION_OF:  # the colon was forgotten
        return _SECTION_OF[line], ""
    if match := _ADDENDUM.match(line):
        return "addendum", line[match.end() :].strip()
    return "", line


def _is_title(line: str) -> bool:
    return line == line.upper() and any(letter.isalpha() for letter in line) and not line.endswith(".")
