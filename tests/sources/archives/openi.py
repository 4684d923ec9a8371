"""Open-i, the Indiana University collection (Demner-Fushman et al. 2016): a report in XML for each study, PNG images.

The reports do not say which image is which view: both captions of a study read "Xray Chest PA and Lateral". No
report is real: studies have numbers above those the archive uses.
"""

from __future__ import annotations

from pathlib import Path

from sources.archives.pixels import write_image

_CAPTION = "Xray Chest PA and Lateral"
_CLEAR = "The lungs are clear. Heart size is normal."
# report: (findings, impression, MeSH terms, images)
_STUDIES = {
    9001: (_CLEAR, "Normal chest.", ("normal",), ("IM-9101-3001", "IM-9101-4001")),
    9002: ("", "Borderline cardiomegaly.", ("Cardiomegaly/borderline",), ("IM-9102-1001", "IM-9102-2001")),
    9003: ("Small right pleural effusion.", "", ("Pleural Effusion/right/small",), ("IM-9103-1001",)),
    9004: ("", "", (), ("IM-9104-1001",)),
    9005: ("There is XXXX opacity in the XXXX lobe.", "XXXX pneumonia.", ("Opacity/lung",), ("IM-9105-1003002",)),
    9006: ("No images were kept of this study.", "Dictated without images.", ("normal",), ()),
    9007: (
        "Heart < 50 % of the chest & unchanged.",
        "Stable.",
        ("normal",),
        ("IM-9107-0001-0001", "IM-9107-0001-0002"),
    ),
}
_REPORT = """<?xml version="1.0" encoding="utf-8"?>
<eCitation>
   <meta type="rr"/>
   <uId id="CXR{number}"/>
   <pmcId id="{number}"/>
   <docSource>CXR</docSource>
   <IUXRId id="{number}"/>
   <licenseType>open-access</licenseType>
   <licenseURL>http://creativecommons.org/licenses/by-nc-nd/4.0/</licenseURL>
   <articleDate>2013-08-01</articleDate>
   <articleType>XR</articleType>
   <publisher>Indiana University</publisher>
   <title>Indiana University Chest X-ray Collection</title>
   <subset>CXR</subset>
   <MedlineCitation Owner="Indiana University" Status="supplied by publisher">
      <Article PubModel="Electronic">
         <ArticleTitle>Indiana University Chest X-ray Collection</ArticleTitle>
         <Abstract>
            <AbstractText Label="COMPARISON">None.</AbstractText>
            <AbstractText Label="INDICATION">Cough</AbstractText>
            {findings}
            {impression}
         </Abstract>
         <AuthorList CompleteYN="Y">
            <Author ValidYN="Y">
               <LastName>Quillfeather</LastName>
               <ForeName>Ada</ForeName>
            </Author>
         </AuthorList>
      </Article>
   </MedlineCitation>
   <MeSH>
{terms}
   </MeSH>
{images}
</eCitation>
"""
_IMAGE = """   <parentImage id="{name}">
      <figureId>F{place}</figureId>
      <caption>{caption}</caption>
      <panel type="single">
         <url>/hadoop/storage/radiology/extract/{name}.jpg</url>
         <imgModality>7</imgModality>
      </panel>
   </parentImage>"""


def write_openi(root: Path) -> Path:
    """7 reports, one of them without images, and 9 images; returns the folder to ingest."""
    reports = root / "ecgen-radiology"
    reports.mkdir(parents=True)
    for number, (findings, impression, terms, series) in _STUDIES.items():
        names = [f"CXR{number}_{image}" for image in series]
        report = _REPORT.format(
            number=number,
            findings=_write_section("FINDINGS", findings),
            impression=_write_section("IMPRESSION", impression),
            terms="\n".join(f"      <major>{term}</major>" for term in terms),
            images="\n".join(
                _IMAGE.format(name=name, place=place, caption=_CAPTION) for place, name in enumerate(names, start=1)
            ),
        )
        (reports / f"{number}.xml").write_text(report, encoding="utf-8")
        for name in names:
            write_image(root / "NLMCXR_png" / f"{name}.png")
    return root


def _write_section(label: str, text: str) -> str:
    if not text:
        return f'<AbstractText Label="{label}"/>'
    text = text.replace("&", "&amp;").replace("<", "&lt;")
    return f'<AbstractText Label="{label}">{text}</AbstractText>'
