import base64
import io
import itertools
import multiprocessing
import os
import re
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipelines import scenes, shards
from pipelines.report import make_panels, panels, pictures, spotlights, summarise, write_report
from pipelines.report.page import candidate_bars, share
from pipelines.report.panels import Share
from pipelines.report.statistics import Lowest, read_errors, read_labels
from pipelines.report.statistics import read_rows as statistics_rows
from pipelines.rows import ERRORS, FILE, LABELS
from pipelines.storage import Location, locate
from tests.pipelines.labelled_scenes import RUN, open_mask, read_rows, write_output
from tests.proc import STATUS, kilobytes
from tests.together import Together

CLASSES = scenes.vocabulary()


class Page(HTMLParser):
    """The addresses, the elements and the text of a page."""

    def __init__(self, text):
        super().__init__()
        self.addresses, self.elements, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append(tag)
        named = dict(attributes)
        self.addresses += [
            named[key] for key in ("src", "href", "srcset", "action") if key in named
        ]
        self.addresses += re.findall(r"url\('?([^')]*)", named.get("style", ""))

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def write(output, classes=CLASSES, run=RUN, rare_classes=6, confused_pairs=6, **options):
    """Write the report; return where it is."""
    labels = summarise(output, len(classes), **options)
    shown = {"rare_classes": rare_classes, "confused_pairs": confused_pairs}
    return write_report(output, labels, classes=classes, run=run, **shown)


def read_page(output, *arguments, **options):
    """Write the report and parse it."""
    place = write(output, *arguments, **options)
    return Page(Path(place.path).read_text())


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    errors = [("s3://photos/cut.jpg", "DamagedImage", "image file is truncated")]
    return write_output(tmp_path_factory.mktemp("corpus"), errors=errors)


def test_the_numbers_are_those_of_all_rows(output):
    rows = read_rows(output)
    statistics = read_labels(output, len(CLASSES), samples=2, uncertain=2)
    masks = [open_mask(row) for row in rows]
    counts = sum(np.bincount(mask.ravel(), minlength=256) for mask in masks)
    np.testing.assert_array_equal(statistics.pixels_N, counts[: len(CLASSES)])
    present = [set(np.unique(mask)) - {255} for mask in masks]
    expected = [sum(index in found for found in present) for index in range(len(CLASSES))]
    assert statistics.images_N.tolist() == expected
    assert statistics.images == len(rows) == statistics.confidence.sum()
    assert statistics.ignored_share == pytest.approx(counts[255] / counts.sum())
    kept = [len(row["candidates"]) for row in rows]
    assert statistics.mean_candidates == pytest.approx(np.mean(kept))
    assert statistics.candidates.tolist() == np.bincount(kept, minlength=157).tolist()
    assert statistics.mean_confidence == pytest.approx(
        np.mean([row["mean_confidence"] for row in rows])
    )


def test_the_rarest_classes_come_with_the_image_that_shows_most_of_them(output):
    rows = {row["image_uri"]: row for row in read_rows(output)}
    statistics = summarise(output, len(CLASSES))
    shown = [
        (segment["category_id"], segment["pixels"], uri)
        for uri, row in rows.items()
        for segment in row["segments"]
    ]
    images = Counter(index for index, _, _ in shown)
    rarest = statistics.rarest(5)
    assert [images[index] for index, _ in rarest] == sorted(images.values())[:5]
    found = statistics_rows(output, [pick for _, pick in rarest], ["image_uri"])
    for index, pick in rarest:
        most = max(pixels for other, pixels, _ in shown if other == index)
        assert (index, most, found[pick]["image_uri"]) in shown


def test_pairs_of_classes_are_confused_whichever_won(output):
    pixels, images = Counter(), Counter()
    for row in read_rows(output):
        for rivalry in row["rivals"]:
            pair = tuple(sorted((rivalry["category_id"], rivalry["rival_id"])))
            pixels[pair] += rivalry["area_fraction"] * row["width"] * row["height"]
            images[pair] += 1
    confusions = summarise(output, len(CLASSES)).confusions(1000)
    assert {(one.first, one.second): one.pixels for one in confusions} == pytest.approx(pixels)
    assert {(one.first, one.second): one.images for one in confusions} == images
    assert [one.pixels for one in confusions] == sorted(pixels.values(), reverse=True)


def test_a_confused_pair_comes_with_the_image_where_most_is_contested(output):
    rows = read_rows(output)
    contested = {row["image_uri"]: contested_pixels(row) for row in rows}
    statistics = summarise(output, len(CLASSES))
    found = make_panels(output, statistics, CLASSES, rare_classes=0, confused_pairs=5).confused
    assert len(found) == 5
    for one in found:
        most = max(pixels[one.confusion.pair] for pixels in contested.values())
        assert contested[one.panel.uri][one.confusion.pair] == most
        [row] = [row for row in rows if row["image_uri"] == one.panel.uri]
        areas = {segment["category_id"]: segment["area_fraction"] for segment in row["segments"]}
        expected = [areas.get(index, 0) for index in one.confusion.pair]
        assert [share.area_fraction for share in one.shares] == pytest.approx(expected)


def contested_pixels(row):
    pixels = Counter()
    for one in row["rivals"]:
        pair = tuple(sorted((one["category_id"], one["rival_id"])))
        pixels[pair] += one["area_fraction"] * row["width"] * row["height"]
    return pixels


def test_two_confused_classes_stand_out_and_all_else_is_dark():
    labels_HW = np.zeros((40, 60), np.uint8)
    labels_HW[10:30, 10:30], labels_HW[10:30, 30:50] = 1, 2
    labels_HW[0, 0] = 255
    red, blue = np.array([250, 0, 0], np.uint8), np.array([0, 0, 250], np.uint8)
    uri = pictures.pair_uri(labels_HW, {1: red, 2: blue})
    rgba_HW4 = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))
    assert rgba_HW4[20, 20].tolist() == [250, 0, 0, pictures.TINTED]
    assert rgba_HW4[20, 40].tolist() == [0, 0, 250, pictures.TINTED]
    assert rgba_HW4[20, 29].tolist() == rgba_HW4[9, 20].tolist() == [255] * 4
    for dark in ((0, 0), (5, 5), (39, 59)):
        assert rgba_HW4[dark].tolist() == [0, 0, 0, pictures.DIMMED]


def test_a_pair_that_fills_its_image_is_not_shown_again(tmp_path):
    classes = ["left", "right"]
    output = write_output(tmp_path, classes=classes, num_images=3)
    statistics = summarise(output, 2)
    assert statistics.confusions(6)
    assert make_panels(output, statistics, classes, 0, confused_pairs=6).confused == []


def test_the_review_queue_names_rare_and_confused_classes(output):
    statistics = summarise(output, len(CLASSES))
    text = read_page(output).text
    _, _, queue = text.partition("rarest classes")
    assert CLASSES[statistics.rarest(1)[0][0]] in queue
    assert CLASSES[statistics.confusions(1)[0].first] in queue.partition("confused")[2]


def test_the_page_needs_nothing_but_itself(output):
    page = read_page(output)
    assert page.addresses
    assert [address for address in page.addresses if not address.startswith("data:")] == []
    text = Path(output.at("report", "index.html").path).read_text()
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text


def test_the_page_says_what_was_run_and_what_came_out(output):
    text = read_page(output).text
    for words in ("nano", "topk:8", "12 images labelled", "DamagedImage", "12.3 images per second"):
        assert words in text
    assert "s3://photos/cut.jpg" in text
    assert "scene_011.jpg" in text
    assert "the decoder was spared" in text


def test_every_shown_image_has_photo_and_labels_and_the_doubted_ones_their_confidence(output):
    page = read_page(output, samples=5, uncertain=3, rare_classes=0, confused_pairs=0)
    assert page.elements.count("figure") == 8
    assert sum(address.startswith("data:image/png") for address in page.addresses) == 8
    # A photo of each figure, and the confidence maps.
    assert sum(address.startswith("data:image/jpeg") for address in page.addresses) == 8 + 3


def test_the_least_certain_images_come_first(output):
    rows = sorted(read_rows(output), key=lambda row: row["mean_confidence"])
    text = read_page(output, samples=0, uncertain=3, rare_classes=0, confused_pairs=0).text
    names = re.findall(r"scene_\d+\.jpg", text)
    assert names == [Path(row["image_uri"]).name for row in rows[:3]]


def test_the_same_output_gives_the_same_page(output):
    place = write(output, samples=4)
    first = place.read()
    assert write(output, samples=4).read() == first


def test_names_and_messages_are_text_never_markup(tmp_path):
    evil = "<script>alert('x')</script>"
    classes = [evil, '"><img src=x onerror=alert(1)>', *CLASSES[2:]]
    output = write_output(
        tmp_path, classes=classes, num_images=6, errors=[(f"s3://{evil}", evil, evil)]
    )
    page = read_page(output, classes, RUN | {"output": evil})
    assert "script" not in page.elements
    assert "x" not in page.addresses
    assert evil in page.text


def test_masks_of_images_that_are_not_shown_are_not_read(tmp_path):
    output = write_output(tmp_path, num_images=3)
    [part] = output.at("labels").files()
    place = output.at("labels", part.base_name)
    table = pa.parquet.read_table(pa.BufferReader(place.read()))
    broken = [{"bytes": b"no picture", "path": None}] * len(table)
    index = table.schema.get_field_index("mask")
    table = table.set_column(index, table.schema.field("mask"), pa.array(broken, FILE))
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(table, sink)
    place.write(sink.getvalue())
    assert (
        "3 images labelled"
        in read_page(output, samples=0, uncertain=0, rare_classes=0, confused_pairs=0).text
    )


def test_a_photo_that_is_gone_leaves_its_labels(tmp_path):
    output = write_output(tmp_path, num_images=2)
    (tmp_path / "photos" / "scene_000.jpg").unlink()
    (tmp_path / "photos" / "scene_001.jpg").write_bytes(b"overwritten")
    page = read_page(output, rare_classes=0, confused_pairs=0)
    assert page.text.count("photo no longer readable") == 3  # both, and the less certain one again
    assert sum(address.startswith("data:image/png") for address in page.addresses) == 3


def test_an_output_without_a_label_is_a_page_too(tmp_path):
    output = write_output(tmp_path, num_images=0, errors=[("a.png", "EmptyFile", "0 bytes")])
    text = read_page(output, run={}).text
    assert "No image was labelled" in text
    assert "EmptyFile" in text


def test_the_page_is_written_into_a_bucket(s3_bucket, tmp_path):
    output = write_output(tmp_path, uri=f"{s3_bucket}/labels of mine", num_images=2)
    place = write(output)
    assert place.uri == f"{s3_bucket}/labels of mine/report/index.html"
    assert "2 images labelled" in Page(place.read().decode()).text


def test_many_errors_are_counted_and_some_are_listed(tmp_path):
    errors = [(f"{i}.png", "EmptyFile", "0 bytes") for i in range(300)]
    output = write_output(tmp_path, num_images=0, errors=errors)
    statistics = read_errors(output)
    assert statistics.total == 300
    assert len(statistics.listed) == 200
    assert "the first 200 are listed" in read_page(output).text


def test_errors_are_read_several_files_at_a_time_and_listed_in_their_order(tmp_path):
    output = locate(str(tmp_path))
    none = LABELS.empty_table()
    for shard in range(16):
        uris = [f"{shard:02d}-{index}.png" for index in range(40 if shard % 2 else 0)]
        failed = [{"image_uri": uri, "error_type": "NotFound", "message": ""} for uri in uris]
        shards.write_shard(output, shard, none, pa.Table.from_pylist(failed, schema=ERRORS))
    statistics = read_errors(Location(Together(4), output.path))
    assert statistics.kinds == {"NotFound": 320}
    listed = [error["image_uri"] for error in statistics.listed]
    assert listed == [
        f"{shard:02d}-{index}.png" for shard in (1, 3, 5, 7, 9) for index in range(40)
    ]


def test_more_classes_than_eight_bits_hold_are_shown(tmp_path):
    classes = [f"class {i}" for i in range(300)]
    output = write_output(tmp_path, classes=classes, num_images=2)
    assert "never won a pixel" in read_page(output, classes).text


@pytest.mark.parametrize("shape", ["ring", "corner", "all"])
def test_a_name_stands_inside_its_segment(shape):
    mask_HW = np.zeros((20, 30), bool)
    if shape == "ring":
        mask_HW[2:18, 2:28] = True
        mask_HW[6:14, 8:22] = False
    elif shape == "corner":
        mask_HW[:, :4] = mask_HW[16:] = True
    else:
        mask_HW[:] = True
    x, y = pictures.inner_point(mask_HW)
    assert mask_HW[int(y * 20), int(x * 30)]


def test_a_ragged_segment_bears_no_name():
    rows, columns = np.indices((20, 30))
    assert pictures.inner_point((rows + columns) % 3 == 0) is None
    assert pictures.inner_point(np.zeros((20, 30), bool)) is None


def test_names_stay_in_the_picture_and_off_each_other():
    names = ["sky", "a very long name of a class that fills the picture and more", "sea", "tree"]
    found = [Share(0, 0.5, 0.25, 0.0), Share(1, 0.3, 0.5, 0.04), Share(2, 0.1, 0.99, 0.99)]
    placed = panels.without_overlaps([*found, Share(3, 0.05)], names, 0.75)
    assert [one.class_index for one in placed] == [0, 1, 2, 3]
    sky, long, sea, tree = placed
    assert (long.x, long.y, tree.x) == (None, None, None)  # over sky, and never named
    for one in (sky, sea):
        half = panels.LETTER * (len(names[one.class_index]) + panels.MARK) / 2
        assert half <= one.x <= 1 - half
        assert panels.TAG_HEIGHT / 2 <= 0.75 * one.y <= 0.75 - panels.TAG_HEIGHT / 2
    (low,) = panels.without_overlaps(found[:1], names, 0.04)  # a panorama
    assert low.y == 0.5
    apart = [replace(found[0], y=0.0), replace(found[1], y=0.5)]
    assert all(one.x is not None for one in panels.without_overlaps(apart, names, 0.75))


def test_a_rare_class_stands_out_of_its_photo_however_small_it_is():
    mask_HW = np.zeros((300, 400), bool)
    mask_HW[200, 100] = True
    uri = pictures.focus_uri(mask_HW, 60, 80, np.array([250, 0, 50], np.uint8))
    image = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    rgba_HW4 = np.asarray(image)
    assert rgba_HW4[40, 20].tolist() == [0, 0, 0, 0]  # the photo itself
    assert rgba_HW4[40, 22].tolist() == [250, 0, 50, 255]  # the line around it
    assert rgba_HW4[40, 22 + pictures.FRAME + 1].tolist() == [255, 255, 255, 255]
    assert rgba_HW4[0, 79].tolist() == [0, 0, 0, pictures.DIMMED]
    whole = pictures.focus_uri(np.ones((300, 400), bool), 60, 80, np.zeros(3, np.uint8))
    opacity = Image.open(io.BytesIO(base64.b64decode(whole.partition(",")[2]))).getchannel("A")
    assert opacity.getextrema() == (0, 0)  # no frame around all of it


def test_rare_classes_are_a_third_of_those_that_occur_at_most(tmp_path):
    output = write_output(tmp_path, num_images=2)
    statistics = summarise(output, len(CLASSES))
    occurring = len(CLASSES) - len(statistics.collapsed)
    found = make_panels(output, statistics, CLASSES, rare_classes=1000)
    assert 0 < len(found.rare) == occurring // 3
    assert len(found.uncertain) == 1
    for one in found.rare:
        assert one.share.area_fraction > 0


@pytest.mark.parametrize(
    ("shown", "images", "rare"),
    [(1, 1, False), (1, 2, True), (2, 2, False), (3, 12, True), (4, 12, False), (250, 1000, True)],
)
def test_what_a_quarter_of_the_images_show_is_not_rare(shown, images, rare):
    assert spotlights.is_rare(shown, images) == rare


def test_few_classes_that_are_everywhere_are_not_listed_as_rare(tmp_path):
    output = write_output(tmp_path, classes=["ball", "box", "cup"], num_images=4)
    text = read_page(output, ["ball", "box", "cup"]).text
    assert "No class is rare here" in text
    assert "All else is dark" not in text.partition("rarest classes")[2].partition("confused")[0]


def test_one_image_has_no_rare_classes_and_says_that_it_is_one(tmp_path):
    text = read_page(write_output(tmp_path, num_images=1)).text
    assert "rarest classes" not in text
    assert "There is one image only" in text
    assert "Every image kept 156 of 156 classes." in text
    assert "was spared" not in text


def test_the_opacity_can_be_set_where_overlays_are_and_at_any_width(output):
    page = read_page(output)
    assert page.elements.count("input") == 2
    text = Path(output.at("report", "index.html").path).read_text()
    style = text[text.index("<style>") : text.index("</style>")]
    hidden = [rule for rule in style.split("}") if "display: none" in rule]
    assert [rule for rule in hidden if "label" in rule and "@media print" not in rule] == []


@pytest.mark.parametrize(("count", "apart"), [(16, 25), (40, 25), (171, 14), (847, 7)])
def test_the_colours_of_classes_are_far_apart(count, apart):
    """In CIELAB, where a distance of 2 can just be seen."""
    lab_N3 = pictures.to_lab(pictures.class_colours(np.arange(count)).astype(float))
    distance_NN = np.linalg.norm(lab_N3[:, None] - lab_N3, axis=-1)
    assert distance_NN[~np.eye(count, dtype=bool)].min() > apart


def test_classes_of_one_picture_have_colours_far_apart():
    random = np.random.default_rng(0)
    shown = [random.choice(150, 10, replace=False).tolist() for _ in range(24)]
    lab_N3 = pictures.to_lab(pictures.class_colours(np.arange(150), shown).astype(float))
    nearest = min(
        np.linalg.norm(lab_N3[a] - lab_N3[b])
        for group in shown
        for a, b in itertools.combinations(group, 2)
    )
    assert nearest > 22  # 16 for who does not know which are shown together
    assert len(np.unique(lab_N3, axis=0)) == 150


def test_the_first_classes_in_order_have_the_known_colours():
    colours_N3 = pictures.class_colours(np.array([2, 0, 1]))
    assert [pictures.to_hex(colours_N3[index]) for index in (2, 0, 1)] == list(pictures.KNOWN[:3])
    assert pictures.to_lab(np.array([255.0, 255, 255])) == pytest.approx([100, 0, 0], abs=0.1)
    assert pictures.to_lab(np.array([255.0, 0, 0])) == pytest.approx([53.2, 80.1, 67.2], abs=0.2)


def test_lowest_keeps_the_lowest_of_any_number():
    lowest = Lowest(3)
    for rank in (5, 1, 4, 2, 3, 0):
        lowest.add(rank, "file", rank)
    assert [pick.index for pick in lowest.picks()] == [0, 1, 2]


def test_the_histogram_of_candidates_covers_what_occurs():
    counts = np.zeros(848, int)
    counts[[3, 3, 846]] = 2
    bars = candidate_bars(counts)
    assert len(bars) <= 25
    assert bars[0].low == 3
    assert bars[-1].high >= 846
    assert sum(bar.count for bar in bars) == 4
    assert [bar.low for bar in candidate_bars(np.array([0, 0, 7]))] == [2]


@pytest.mark.parametrize(("value", "text"), [(0, "0.0 %"), (0.0004, "< 0.1 %"), (0.5, "50.0 %")])
def test_shares_are_readable(value, text):
    assert share(value) == text


def memory_of_a_report(folder):
    """Write a report; return the images it covers and the bytes at the peak.

    To be called in a process of its own.
    """
    output = locate(str(folder))
    before = kilobytes("VmRSS")
    statistics = summarise(output, len(CLASSES))
    write_report(output, statistics, classes=CLASSES, run=RUN)
    return statistics.images, 1024 * (kilobytes("VmHWM") - before)


@pytest.mark.skipif(not STATUS.exists(), reason="reads what Linux says")
def test_a_report_over_a_million_rows_takes_little_memory(tmp_path):
    output = write_output(tmp_path, num_images=20, per_shard=20)
    labels = Path(output.at("labels").path)
    few = pq.read_table(labels / "part-00000.parquet")
    pq.write_table(pa.concat_tables([few] * 50), labels / "part-00000.parquet")
    for index in range(1, 1000):
        os.link(labels / "part-00000.parquet", labels / f"part-{index:05d}.parquet")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        images, peak = process.submit(memory_of_a_report, output.path).result()
    assert images == 1_000_000
    assert peak < 400_000_000
    assert (tmp_path / "output/report/index.html").stat().st_size < 5_000_000
