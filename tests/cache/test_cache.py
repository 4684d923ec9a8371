from __future__ import annotations

import json
import shutil
import textwrap
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from hilum.cache import SPLITS, Cache
from hilum.cache.side_table import read_side_table, write_side_table
from hilum.cache.writer import build_cache
from hilum.config import EncoderConfig
from hilum.errors import UserError
from hilum.imaging.read import read_image
from hilum.imaging.resize import quantize, resize_short_side
from hilum.study import read_studies, write_studies
from hilum.vocabulary import VIEW_KINDS
from toy_archive import make_cache, write_archive
from toy_cache import VIEWS, build, read_folder, run_program


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("cache") / "archive", VIEWS, sides=(70, 200))


def test_every_image_is_there_with_what_must_be_known_of_it(archive: Path, tmp_path: Path) -> None:
    cache = build(archive, tmp_path / "cache")
    table = read_studies(archive)
    files = [(row["root"], view) for row in table.iter_rows(named=True) for view in row["views"]]
    assert len(cache.views) == sum(VIEWS) == len(files)
    sums = []
    for number, (root, view) in enumerate(files):
        grey = read_image(Path(root) / view["path"])
        small, affine = resize_short_side(grey.pixels, 64)
        np.testing.assert_array_equal(cache.image(number), quantize(small, 8))
        np.testing.assert_array_equal(cache.views["affine"][number], affine)
        assert VIEW_KINDS[cache.views["view_kind"][number]] == view["kind"]
        if cache.studies["split"][cache.views["study"][number]] == SPLITS.index("train"):
            sums.append(cache.image(number).ravel())
    np.testing.assert_array_equal(cache.studies["num_views"], VIEWS)
    np.testing.assert_array_equal(cache.studies["first_view"], np.cumsum(VIEWS) - VIEWS)
    np.testing.assert_array_equal(cache.views["study"], np.repeat(np.arange(len(VIEWS)), VIEWS))
    pixels = np.concatenate(sums).astype(np.float64) / 255
    np.testing.assert_allclose([cache.mean, cache.std], [pixels.mean(), pixels.std()], rtol=1e-12)
    final = cache.table()
    assert final["study"].to_list() == table["study"].to_list()
    first = final["views"][0][0]
    with Image.open(Path(files[0][0]) / first["path"]) as image:
        assert (first["width"], first["height"]) == image.size
    assert bytes.fromhex(first["content_hash"]) == cache.views["content_hash"][0].tobytes()
    assert sorted(np.concatenate([cache.rows(split) for split in SPLITS])) == list(range(len(VIEWS)))
    # Two studies a patient: the same number, the same split.
    assert (cache.studies["patient"][0::2] == cache.studies["patient"][1::2]).all()
    assert (cache.studies["split"][0::2] == cache.studies["split"][1::2]).all()
    assert cache.policy == "voi-1/short64/uint8"
    assert cache.verify() == []


def test_the_bytes_do_not_depend_on_who_works(archive: Path, tmp_path: Path) -> None:
    expected = read_folder(build(archive, tmp_path / "alone").path)
    assert len([name for name in expected if name.endswith(".bin")]) == 4
    assert read_folder(build(archive, tmp_path / "pool", workers=2).path) == expected
    for share in ("2/3", "0/3"):
        options = {"workers": 0, "short_side": 64, "shard_views": 4, "progress": False}
        assert not build_cache(archive, tmp_path / "array", worker=share, **options).is_whole
        with pytest.raises(UserError, match="unfinished cache"):
            Cache.open(tmp_path / "array")
    assert read_folder(build(archive, tmp_path / "array", worker="1/3").path) == expected


def test_a_script_that_its_workers_import_is_told_so(archive: Path, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
            import sys
            from pathlib import Path
            from hilum.cache.writer import build_cache
            build_cache(Path(sys.argv[1]), Path(sys.argv[2]), workers=2, short_side=64, progress=False)
        """)
    )
    done = run_program(str(program), archive, tmp_path / "cache")
    assert done.stderr.count("Traceback") == 1
    assert done.stderr.strip().splitlines()[-1] == (
        f"hilum.errors.UserError: {program}: calls build_cache while it is imported, and every worker process imports "
        'it. Put the call under `if __name__ == "__main__":`.'
    )


def test_bad_files_are_listed_and_the_rest_goes_on(tmp_path: Path) -> None:
    table = write_archive(tmp_path / "archive", [2, 1, 1, 2, 1, 1])
    names = [f"toy-{number:03d}-0.png" for number in range(6)]
    root = table.parent
    (root / names[0]).write_text("This is no image.")
    (root / names[1]).unlink()
    (root / names[3]).write_bytes((root / names[3]).read_bytes()[:60])
    Image.new("L", (80, 80), 7).save(root / names[4])
    cache_path = tmp_path / "cache"
    settings = {"workers": 0, "short_side": 64, "progress": False}
    assert build_cache(table, cache_path, **settings).num_rejected == 4
    cache = Cache.open(cache_path)
    rejected = pl.read_parquet(cache_path / "rejected.parquet")
    files = rejected.filter(pl.col("path").is_not_null())
    assert files["path"].to_list() == [names[0], names[1], names[3], names[4]]
    assert "does not exist" in files["reason"][1]
    assert "blank" in files["reason"][3]
    lost = rejected.filter(pl.col("path").is_null())
    assert lost["study"].to_list() == ["s001", "s004"]
    assert lost["reason"].unique().to_list() == ["study dropped: none of its views could be read"]
    assert cache.table()["study"].to_list() == ["s000", "s002", "s003", "s005"]
    np.testing.assert_array_equal(cache.studies["num_views"], [1, 1, 1, 1])
    assert cache.table()["views"][0][0]["path"] == "toy-000-1.png"
    # A file that is mended is read in the next run.
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (80, 80), dtype=np.uint8)).save(root / names[1])
    assert build_cache(table, cache_path, **settings).num_rejected == 3
    assert Cache.open(cache_path).table()["study"].to_list() == ["s000", "s001", "s002", "s003", "s005"]


def test_nothing_readable_is_an_error(tmp_path: Path) -> None:
    table = write_archive(tmp_path / "archive", [1, 1])
    for path in table.parent.glob("*.png"):
        path.unlink()
    with pytest.raises(
        UserError, match=r"None of the 2 images could be read. The first: toy-000-0.png: .*does not exist"
    ):
        build(table, tmp_path / "cache")


def test_rejected_files_are_named_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_archive(tmp_path / "archive", [1] * 6)
    for number in (1, 3):
        (table.parent / f"toy-00{number}-0.png").write_text("a letter, not a picture\n" * 9)
    (table.parent / "toy-004-0.png").unlink()
    build(table, tmp_path / "cache", progress=True)
    said = capsys.readouterr().err.splitlines()
    assert said[-4].startswith("3 views of 3 studies; 3 files rejected, 3 studies left without a view, all in ")
    assert said[-3:] == [
        "  2: toy-001-0.png, ...: not an image: a text file",
        "  1: toy-004-0.png: the file does not exist",
        "  Mend these files and run the same command again, or go on without them.",
    ]


def test_settings_that_contradict_the_folder(archive: Path, tmp_path: Path) -> None:
    build(archive, tmp_path / "cache")
    with pytest.raises(UserError, match=r"policy voi-1/short64/uint8 .* asked for was voi-1/short96/uint16"):
        build(archive, tmp_path / "cache", short_side=96, bits=16)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("dear to its writer")
    with pytest.raises(UserError, match="exists and is not a cache"):
        build(archive, tmp_path / "other")
    with pytest.raises(UserError, match="no intensity policy 'bright'"):
        build(archive, tmp_path / "new", policy="bright")
    for share in ("4/4", "1", "-1/4", "a/b"):
        with pytest.raises(UserError, match="is not i/n with i from 0 to n-1"):
            build(archive, tmp_path / "new", worker=share)
    for settings, said in (
        ({"split_fractions": {"train": 0.8, "val": 0.2, "test": 0.2}}, "add up to 1"),
        ({"split_fractions": {"train": 1.0, "dev": 0.0}}, "no split dev"),
        ({"short_side": 0}, "--short-side is 0; it must be at least 1"),
        ({"workers": -1}, "--workers is -1"),
        ({"file_timeout": 0.0}, "above 0"),
    ):
        with pytest.raises(UserError, match=said):
            build(archive, tmp_path / "new", **settings)
    assert not (tmp_path / "new").exists()


def test_a_patient_in_two_official_splits_is_said_before_any_image_is_read(tmp_path: Path) -> None:
    table = write_archive(tmp_path / "archive", [1] * 4, split=["train", "test", "train", "train"])
    with pytest.raises(UserError, match=r"Leak: 1 patient \(toy-p000\) in both train and test"):
        build(table, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_what_is_wrong_with_a_cache_is_said(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no cache \(index.json is missing\)"):
        Cache.open(tmp_path)
    cache = build(archive, tmp_path / "cache")
    shard = cache.path / "shard-00001.bin"
    whole = shard.read_bytes()
    shard.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    assert Cache.open(cache.path).verify() == ["shard-00001.bin is not what was written (sha256 differs)"]
    assert read_folder(build(archive, cache.path).path)["shard-00001.bin"] == whole  # made again
    shard.write_bytes(whole[:-1])
    with pytest.raises(UserError, match=rf"shard-00001.bin: has {len(whole) - 1} bytes, index.json says {len(whole)}"):
        Cache.open(cache.path)
    assert read_folder(build(archive, cache.path).path)["shard-00001.bin"] == whole  # made again
    index = json.loads((cache.path / "index.json").read_text())
    (cache.path / "index.json").write_text(json.dumps({**index, "mean": 0.5}))
    assert Cache.open(cache.path).verify() == ["index.json was changed (digest differs)"]
    (cache.path / "index.json").write_text(json.dumps({**index, "format": 0}))
    with pytest.raises(UserError, match="cache format 0, this Hilum reads 1"):
        Cache.open(cache.path)


def test_the_same_pixels_in_two_official_splits_are_an_error_and_join_patients_otherwise(tmp_path: Path) -> None:
    splits = ["train", "train", "val", "val", "test", "test"]
    table = write_archive(tmp_path / "archive", [1] * 6, split=splits)
    shutil.copy(table.parent / "toy-000-0.png", table.parent / "toy-005-0.png")
    with pytest.raises(UserError, match="Leak"):
        build(table, tmp_path / "official")
    write_studies(read_studies(table).with_columns(split=pl.lit(None, pl.String)), table)
    cache = build(table, tmp_path / "free")
    assert cache.studies["patient"][0] == cache.studies["patient"][5]
    assert len(np.unique(cache.studies["patient"])) == 2
    assert cache.studies["split"][0] == cache.studies["split"][5]


def test_sixteen_bits_and_small_images_are_kept_as_they_are(tmp_path: Path) -> None:
    cache = make_cache(tmp_path, [1, 1], bits=16, short_side=300)
    assert cache.image(0).dtype == np.uint16
    table = cache.table()
    assert cache.image(0).shape == (table["views"][0][0]["height"], table["views"][0][0]["width"])
    assert 0 < cache.mean < 1
    with pytest.raises(UserError, match="images of 448 px wanted, but the cache keeps a short side of 300 px"):
        cache.check_encoder(EncoderConfig(image_size=448))
    cache.check_encoder(EncoderConfig(image_size=300))


def test_views_of_a_kind_that_the_encoder_has_no_vector_for_are_refused(tmp_path: Path) -> None:
    table = write_archive(tmp_path / "archive", [1, 1, 2])
    frame = read_studies(table)
    write_studies(frame.with_columns(views=rename_kinds(frame["views"], {"lateral": "mlo"})), table)
    cache = build(table, tmp_path / "cache")
    with pytest.raises(UserError, match=r"1 views are mlo .*study toy/s002\); .* lateral, unknown only\. Pretrain one"):
        cache.check_encoder(EncoderConfig(image_size=64))
    cache.check_encoder(EncoderConfig(image_size=64, num_view_kinds=5))
    cache.check_encoder(EncoderConfig(image_size=64, view_embedding=False))


def rename_kinds(views: pl.Series, names: dict[str, str]) -> pl.Series:
    renamed = [[{**view, "kind": names.get(view["kind"], view["kind"])} for view in study] for study in views]
    return pl.Series("views", renamed, dtype=views.dtype)


def test_side_tables_are_found_by_what_made_them(archive: Path, tmp_path: Path) -> None:
    cache = build(archive, tmp_path / "cache")
    arrays = {"features": np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32), "row": np.arange(4)}
    path = write_side_table(cache, "features", arrays, {"weights": "abc", "layer": 3})
    stored = read_side_table(cache, "features", {"layer": 3, "weights": "abc"})
    assert stored is not None
    assert stored.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(stored[name], array)
    assert read_side_table(cache, "features", {"weights": "abd", "layer": 3}) is None
    assert read_side_table(cache, "targets", {"weights": "abc", "layer": 3}) is None
    write_studies(read_studies(archive).with_columns(Edema=pl.lit(1, pl.Int8)), tmp_path / "relabelled.parquet")
    other = build(tmp_path / "relabelled.parquet", cache.path)
    assert read_side_table(other, "features", {"weights": "abc", "layer": 3}) is None
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(UserError, match="not a readable side table"):
        read_side_table(cache, "features", {"weights": "abc", "layer": 3})
