"""From archives' rows to records; rows have the columns of L 4, and each trap named there is a test."""

from __future__ import annotations

from hilum.text.breast.archive_rows import find_worst, read_cbis, read_embed, read_rsna, read_vindr
from hilum.text.breast.grammar import write_text


def vindr_breast(view: str = "CC", study: str = "s1", side: str = "L", birads: str = "BI-RADS 4") -> dict[str, str]:
    return {
        "study_id": study, "series_id": "x", "image_id": f"{study}{side}{view}", "laterality": side,
        "view_position": view, "height": "3518", "width": "2800", "breast_birads": birads,
        "breast_density": "DENSITY C", "split": "training",
    }  # fmt: skip


def vindr_finding(categories: str, view: str = "CC", birads: str = "BI-RADS 4", box: str = "1") -> dict[str, str]:
    corner = {"xmin": box, "ymin": box, "xmax": f"{box}00", "ymax": f"{box}00"} if box else {}
    return vindr_breast(view) | {"finding_categories": categories, "finding_birads": birads, **corner}


def test_vindr_names_what_it_has_and_leaves_descriptors_open() -> None:
    table = read_vindr([vindr_breast("CC"), vindr_breast("MLO")], [vindr_finding("['Mass']", "MLO")])
    (record,) = table.records
    assert (record.laterality, record.assessment, record.assessment_source, record.density) == (
        "left",
        4,
        "breast",
        "c",
    )
    (mass,) = record.findings
    assert (mass.category, mass.views, mass.birads, mass.shapes, mass.margins) == ("mass", ("mlo",), 4, (), ())
    assert mass.boxes[0].view == "mlo"
    assert not table.notes


def test_vindr_denies_only_what_is_suspicious_and_everything_of_a_negative_breast() -> None:
    nothing = vindr_finding("['No Finding']", birads="", box="")
    rows = [vindr_breast(birads="BI-RADS 2"), vindr_breast(side="R", birads="BI-RADS 1")]
    benign, negative = read_vindr(rows, [nothing]).records
    assert (benign.exhaustive_for, negative.exhaustive_for) == ("suspicious", "all")
    assert {"mass", "calcification", "architectural distortion"} <= set(benign.list_absent())
    assert "post-surgical" not in benign.exhaustive
    texts = [write_text(benign, variant, style="sentence") for variant in range(20)]
    assert not [text for text in texts if "no mass" in text.lower()]


def test_vindr_rows_of_two_categories_give_two_findings_and_boxes_of_one_view_several() -> None:
    rows = [
        vindr_finding("['Mass', 'Suspicious Calcification']"),
        vindr_finding("['Mass']", box="2", birads="BI-RADS 5"),
    ]
    (record,) = read_vindr([vindr_breast()], rows).records
    mass, calcification = record.findings
    assert (mass.several, mass.birads, len(mass.boxes)) == (True, 5, 2)
    assert (calcification.category, calcification.several, calcification.suspicious) == ("calcification", False, True)


def test_the_vindr_breast_without_mlo_has_one_view() -> None:
    (record,) = read_vindr([vindr_breast("CC"), vindr_breast("CC")], [vindr_finding("['Mass']")]).records
    assert record.views == ("cc",)


def test_vindr_rows_that_differ_leave_the_value_open_and_are_counted() -> None:
    table = read_vindr([vindr_breast(birads="BI-RADS 4"), vindr_breast("MLO", birads="BI-RADS 5")], [])
    assert table.records[0].assessment is None
    assert table.notes["breast_birads: rows of one breast differ"] == 1


def test_vindr_words_nobody_knows_and_rows_without_box_are_counted() -> None:
    table = read_vindr([vindr_breast()], [vindr_finding("['Comet']"), vindr_finding("['Mass']", box="")])
    assert table.records[0].findings[0].boxes == ()
    assert table.notes == {"finding_categories: unknown value 'Comet'": 1, "a finding without a usable box": 1}


def rsna_row(view: str, **cells: str) -> dict[str, str]:
    row = {
        "site_id": "2", "patient_id": "10006", "image_id": "1", "laterality": "L", "view": view, "age": "61.0",
        "cancer": "1", "biopsy": "1", "invasive": "1", "BIRADS": "", "implant": "0", "density": "", "machine_id": "29",
        "difficult_negative_case": "False",
    }  # fmt: skip
    return row | cells


def test_rsna_has_no_findings_no_absences_and_its_labels_never_reach_a_text() -> None:
    rows = [rsna_row("CC", BIRADS="0.0", density="B"), rsna_row("MLO", BIRADS="0", density="B"), rsna_row("AT")]
    (record,) = read_rsna(rows).records
    assert (record.assessment, record.density, record.views, record.implant) == (0, "b", ("cc", "mlo"), False)
    assert record.findings == record.exhaustive == ()
    texts = " ".join(write_text(record, variant) for variant in range(30)).lower()
    assert not [word for word in ("cancer", "biopsy", "invasive", "10006", "61", " no ", "implant") if word in texts]


def test_rsna_breasts_of_the_site_without_density_and_birads_have_no_text() -> None:
    (record,) = read_rsna([rsna_row("CC"), rsna_row("MLO")]).records
    assert record.is_empty()


def cbis_mass(**cells: str) -> dict[str, str]:
    row = {
        "patient_id": "P_00001", "breast_density": "3", "left or right breast": "LEFT", "image view": "CC",
        "abnormality id": "1", "abnormality type": "mass", "mass shape": "IRREGULAR-ARCHITECTURAL_DISTORTION",
        "mass margins": "SPICULATED", "assessment": "4", "pathology": "MALIGNANT", "subtlety": "4",
        "image file path": "a\n",
    }  # fmt: skip
    return row | cells


def cbis_calcification(**cells: str) -> dict[str, str]:
    row = {
        "patient_id": "P_00001", "breast density": "3", "left or right breast": "LEFT", "image view": "MLO",
        "abnormality id": "1", "abnormality type": "calcification", "calc type": "PLEOMORPHIC-FINE_LINEAR_BRANCHING",
        "calc distribution": "CLUSTERED-LINEAR", "assessment": "5", "pathology": "BENIGN_WITHOUT_CALLBACK",
    }  # fmt: skip
    return row | cells


def test_cbis_compound_words_are_several_descriptors_and_may_name_a_second_finding() -> None:
    table = read_cbis([cbis_mass()], [cbis_calcification()])
    (record,) = table.records
    mass, distortion, calcification = record.findings
    assert (mass.shapes, mass.margins) == (("irregular",), ("spiculated",))
    assert distortion.category == "architectural distortion"
    assert calcification.morphologies == ("fine pleomorphic", "fine linear branching")
    assert (calcification.distributions, calcification.suspicious) == (("grouped", "linear"), True)
    assert (record.assessment, record.assessment_source, record.density) == (5, "finding-max", "c")
    assert record.views == ("cc", "mlo")  # of both tables, though their density columns are spelt otherwise
    assert not record.exhaustive
    assert not table.notes


def test_cbis_views_of_one_abnormality_are_one_finding_and_their_differences_stay_open() -> None:
    rows = [cbis_mass(), cbis_mass(**{"image view": "MLO", "mass margins": "ILL_DEFINED"})]
    table = read_cbis(rows, [])
    assert table.records[0].findings[0].views == ("cc", "mlo")
    assert table.records[0].findings[0].margins == ()
    assert table.notes["mass margins: views of one finding differ"] == 1


def test_cbis_values_with_line_breaks_not_applicable_and_density_zero() -> None:
    rows = [cbis_mass(**{"mass shape": "OVAL\n", "mass margins": "N/A", "breast_density": "0"})]
    (record,) = read_cbis(rows, []).records
    assert record.findings[0].shapes == ("oval",)
    assert record.findings[0].margins == ()
    assert record.density is None


def embed_row(**cells: str) -> dict[str, str]:
    row = {
        "empi_anon": "7", "acc_anon": "9", "side": "L", "tissueden": "3.0", "asses": "S", "numfind": "1",
        "massshape": "X", "massmargin": "S", "massdens": "+", "calcfind": "", "calcdistri": "", "otherfind": "",
        "size": "12", "path_severity": "0", "RACE_DESC": "unknown",
    }  # fmt: skip
    return row | cells


def test_embed_codes() -> None:
    table = read_embed([embed_row(), embed_row(numfind="2", massshape="", massmargin="", massdens="", calcfind="A,V", calcdistri="G", asses="M")])  # fmt: skip # noqa: E501
    (record,) = table.records
    mass, calcification = record.findings
    assert (mass.shapes, mass.margins, mass.mass_density, mass.size_mm) == (
        ("irregular",),
        ("spiculated",),
        "high",
        None,
    )
    assert calcification.morphologies == ("amorphous", "vascular")
    assert (record.assessment, record.density) == (5, "c")
    assert not table.notes


def test_embed_shapes_that_are_no_mass_and_codes_of_no_morphology() -> None:
    rows = [embed_row(massshape=code, massmargin="", massdens="") for code in "AFY"]
    rows.append(embed_row(massshape="", massmargin="", massdens="", calcfind="9", otherfind="B"))
    (record,) = read_embed(rows).records
    assert [one.category for one in record.findings] == [
        "architectural distortion", "focal asymmetry", "lymph node", "calcification", "clip",
    ]  # fmt: skip
    assert record.findings[3].morphologies == ()


def test_embed_sides_repeated_rows_and_men() -> None:
    rows = [
        embed_row(side="B", asses="N", massshape="", massmargin="", massdens="", tissueden="5"),
        embed_row(side="R"),
    ]
    rows.append(dict(rows[1]))  # a join with images
    records = {one.laterality: one for one in read_embed(rows, [{"acc_anon": "9", "ImageLateralityFinal": "R", "ViewPosition": "MLO"}]).records}  # fmt: skip # noqa: E501
    assert records["left"].assessment == 1
    assert records["left"].density is None
    assert len(records["right"].findings) == 1
    assert records["right"].assessment == 4
    assert records["right"].views == ("mlo",)
    (both,) = {one.assessment for one in read_embed([embed_row(side="", asses="P")]).records}
    assert both == 3


def test_the_worst_of_assessments() -> None:
    assert find_worst([1, 0, 3]) == 0
    assert find_worst([0, 4, 2]) == 4
    assert find_worst([None]) is None
