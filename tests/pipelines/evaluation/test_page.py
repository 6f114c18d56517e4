import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from pipelines.evaluation import output
from pipelines.evaluation.confusion import confusion_picture
from pipelines.evaluation.page import render
from pipelines.evaluation.published import Measured, paper_table
from sed.metrics import ConfusionMatrix
from tests.pipelines.evaluation.by_grey import evaluate_rows, halves, row

VOID = {"meta", "link", "img", "input", "br"}


class Balanced(HTMLParser):
    """Fails where a tag is closed that is not the innermost open one."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def result():
    """Eight photos in which only the darkest class is found, and a broken one."""
    image, mask = halves()
    mask[20:40, 10:30] = 2
    rows = [row(image, mask, 3, f"<b>photo-{index}") for index in range(8)]
    rows.append(row(image, mask, 3, "broken") | {"image": {"bytes": b"x", "path": "x"}})
    found = evaluate_rows(rows, 3)
    found.data.classes[:] = ["dark & deep", "middle", "light <i>"]
    return found


@pytest.fixture(scope="module")
def page(result):
    table = paper_table("nano", [Measured("ade20k-150", "none", 12.34, 64)])
    return render([result, result], table, {"Model": "nano <x>", "Seed": 0, "At most": None})


def test_the_page_is_whole_and_needs_nothing_else(page):
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "<b>photo" not in page
    assert "&lt;b&gt;photo-0" in page
    assert "Evaluation of nano &lt;x&gt;" in page


def test_the_page_shows_scores_classes_errors_and_worst_images(page, result):
    found = result.summary()
    for value in (found["mIoU"], found["pACC"], found["boundary_mIoU"]):
        assert f"<b>{value:.1f}</b>" in page
    assert "dark &amp; deep" in page
    assert page.count("mIoU of this image") == 2 * 8
    assert page.count("data:image/jpeg;base64,") == 2 * 8
    assert "cannot identify its image format" in page
    assert "At most" not in page


def test_names_on_the_worst_images_do_not_leave_the_picture(page):
    places = re.findall(r'class="tag" style="[^"]*left: ([\d.]+)%; top: ([\d.]+)%', page)
    assert places
    for left, top in places:
        assert 10 < float(left) < 90
        assert 4 < float(top) < 96


def test_a_collapsed_class_says_what_it_was_taken_for(page, result):
    assert result.collapsed() == ["middle", "light <i>"]
    table = page[page.index(">Collapsed classes<") :]
    names = re.findall(r"<tr><td>([^<]*)</td>.*?<td>([^<]*)</td>", table[: table.index("</table>")])
    assert names == [("middle", "light &lt;i&gt;"), ("light &lt;i&gt;", "dark &amp; deep")]


def test_published_and_measured_rows_stay_apart(page):
    published, measured = page.index("published by the authors"), page.index(">measured here<")
    assert published < page.index("<td>SED-fast (L), topk:8</td>") < measured
    assert measured < page.index("<td>nano, none</td>")
    assert "12.3*" in page[measured:]


def test_a_page_without_any_image_is_a_page():
    bad = row(*halves(), 2) | {"mask": None}
    text = render([evaluate_rows([bad], 2)], None, {"Model": "nano"})
    Balanced().feed(text)
    assert "the file is empty or missing" in text


def test_the_picture_shows_the_classes_that_are_really_confused():
    matrix = ConfusionMatrix(6)
    matrix.counts[0, 0], matrix.counts[1, 0] = 10**6, 2000  # the edges of a large class
    matrix.counts[5, 2], matrix.counts[2, 2], matrix.counts[4, 2] = 1500, 100, 10
    matrix.counts[3, 3] = 1000
    picture = confusion_picture(matrix, most=1)
    assert (picture.true, picture.predicted) == ([2], [5])
    picture = confusion_picture(matrix, most=2)
    assert (picture.true, picture.predicted) == ([0, 2], [0, 5])
    assert picture.share_RC[1].tolist() == [0, 1500 / 1610]
    assert picture.other_R.tolist() == pytest.approx([2000 / 1002000, 110 / 1610])


def test_mlflow_gets_a_confusion_picture_and_strips_of_the_worst(result, tmp_path):
    output.draw(result, tmp_path)
    (picture,) = (tmp_path / "confusion").iterdir()
    assert picture.name == "scenes-none.png"
    assert Image.open(picture).width > 400
    strips = sorted((tmp_path / "worst" / "scenes-none").iterdir())
    assert len(strips) == 8
    assert re.fullmatch(r"01-mIoU-\d+\.\d-_b_photo-0\.png", strips[0].name)
    strip = np.asarray(Image.open(strips[0]))
    assert strip.shape == (60, 3 * 100 + 12, 3)
    assert np.abs(strip[30, 20:25].astype(int)).max() < 10, "the photo is black there"
    assert strip[30, 106 + 20].max() > 50, "the truth is coloured there"
