import base64
from pathlib import Path

from matplotlib.figure import Figure

from matwheel.report.picture import Picture, save_pictures


def test_files_are_named_after_the_picture_and_never_overwrite_each_other(tmp_path: Path) -> None:
    pictures = [Picture(name, "", "", Figure((1, 1))) for name in ("parity ../F+G", "parity ../F G")]
    files = save_pictures(pictures, tmp_path / "new")
    assert [path.name for path in files] == [
        "parity-f-g.png", "parity-f-g.svg", "parity-f-g-2.png", "parity-f-g-2.svg",
    ]  # fmt: skip
    assert all(path.parent == tmp_path / "new" and path.stat().st_size for path in files)


def test_the_picture_in_the_page_is_the_file() -> None:
    picture = Picture("x", "", "", Figure((2, 1)))
    assert base64.b64decode(picture.source.partition(",")[2]) == picture.svg
    assert (picture.width, picture.height) == (192, 96)
