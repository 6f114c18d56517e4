"""The page and the picture of a sweep."""

import io
import re

from PIL import Image

from pipelines.sweep.page import decades, render, steps
from pipelines.sweep.picture import draw
from pipelines.sweep.words import doubt, failures, gain_sentence, interval, lost, sentence, table


def trial(name, cost, miou, *, images=64, reference=False):
    found = {
        "rejection": name,
        "reference": reference,
        "images": images,
        "miou": miou,
        "miou_none": 80.0,
        "drop_points": 80 - miou,
        "drop_low": 79.5 - miou,
        "drop_high": 80.5 - miou,
        "cost": cost,
        "kept": [300 * cost, 200 * cost, 100 * cost],
        "recall": [1.0, 0.98, 0.95],
        "decoder_seconds": cost,
        "labels_seconds": 0.01,
        "images_per_second": 1 / (cost + 0.1),
        "peak_memory_gb": None,
    }
    if images == 64:
        found |= {"alone_decoder_seconds": cost, "alone_images_per_second": 1 / (cost + 0.1)}
    return found


def result():
    return {
        "model": "nano",
        "model_id": "sha256:abc",
        "vocabulary_id": "sha256:def",
        "dataset": {"name": "scenes", "source": "<b>scenes</b>", "digest": "sha256:ghi"},
        "batch_size": 8,
        "max_miou_drop": 0.2,
        "images": 64,
        "broken_images": [],
        "failed_trials": 0,
        "num_names": 323,
        "concurrency": 2,
        "threads": 1,
        "seconds": 100.0,
        "versions": {"ray": "2"},
        "run_id": None,
        "trials": [
            trial("none", 1.0, 80.0),
            trial("topk:8", 0.5, 79.9, reference=True),
            trial("topk:1", 0.1, 76, reference=True),
            trial("fixed:9", 0.2, 79.95),
            trial("prob:0.9", 0.3, 78),
            trial("prob:0.99", 0.3, 60, images=32),
        ],
        "front": ["topk:1", "fixed:9", "none"],
        "single_k": ["topk:1", "topk:8"],
        "chosen": "fixed:9",
    }


def test_the_page_shows_every_trial_and_needs_nothing_else():
    page = render(result())
    for text in ("none", "topk:8", "topk:1", "fixed:9", "prob:0.9", "prob:0.99"):
        assert '<tr class="' in page
        assert f'data-policy="{text}"' in page
    assert page.count("<circle") == 2 * 5 + 4
    assert not re.search(r"(?:src|href)=\"(?!data:)", page)
    assert "&lt;b&gt;scenes" in page
    assert "<b>scenes" not in page


def test_the_table_of_trials_has_a_cell_for_each_head_and_scrolls_by_itself():
    page = render(result())
    start = page.index('<table class="trials">')
    table_text = page[start : page.index("</table>", start)]
    heads = table_text.count("<th>") + table_text.count("<th ")
    rows = table_text.split("<tr class=")[1:]
    assert len(rows) == 6
    assert [row.count("<td") for row in rows] == [heads] * 6
    assert heads <= 10  # more do not fit a window of 1400 pixels
    assert page[:start].rstrip().endswith('aria-label="Every trial">')
    assert '<td class="number">0.05 (-0.45 to 0.55)</td>' in table_text


def test_a_sweep_without_a_choice_can_be_shown():
    found = result() | {"chosen": None}
    assert "No policy loses at most 0.2" in render(found)
    assert draw(found)
    assert "No policy" in sentence(found)


def test_the_picture_is_an_image_of_fair_size():
    data = draw(result())
    assert len(data) < 400_000
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.width > 1000


def test_the_table_marks_choice_and_front():
    lines = "\n".join(table(result() | {"gain": {"policy": "prob:0.9"}}))
    assert "*+fixed:9" in lines
    assert " +topk:1" in lines
    assert "  prob:0.9" in lines  # a sentence below the table names it
    assert "prob:0.99" not in lines
    assert "prob:0.9" not in "\n".join(table(result() | {"gain": None}))


def test_axes_have_round_numbers():
    assert decades([0.03, 0.9]) == [0.05, 0.1, 0.2, 0.5]
    assert decades([2.5, 8]) == [3, 4, 5, 6, 7, 8]
    assert decades([0.32, 0.361]) == [0.32, 0.33, 0.34, 0.35, 0.36]
    assert steps(70.2, 79.1) == [72, 74, 76, 78]
    assert steps(80, 80) == [80]


def choice(low, high, *, images=64, allowed=0.2):
    """A result whose chosen policy loses between so many points."""
    found = result() | {"max_miou_drop": allowed}
    for one in found["trials"]:
        if one["rejection"] == found["chosen"]:
            one |= {"drop_low": low, "drop_high": high}
    return found | {"images": images}


def test_a_choice_within_the_noise_is_said_to_be_one():
    words = "only known to be 0.45 gained to 0.55 lost, and 0.2 may be; sweep on more images"
    assert words in doubt(result())
    assert "The choice may be an accident" in render(result())
    assert doubt(choice(0.0, 0.1)) is None
    assert doubt(choice(-2.0, 0.1)) is None  # wide, but all of it is allowed
    assert "only 3 images were measured; sweep on more" in doubt(choice(0.0, 0.1, images=3))
    assert doubt(result() | {"chosen": None, "images": 3}) is None


def gain(policy, by_decoder, by_whole):
    found = {"single_k": "topk:2", "policy": policy, "by_decoder": by_decoder}
    return gain_sentence({"gain": found | {"by_whole": by_whole, "by_cost": 1.0}})


def test_speeds_within_the_noise_of_the_clock_are_equal():
    assert gain("fixed:9", 1.02, 0.99) == (
        "Against the best single K, topk:2: fixed:9 is as accurate and equally fast in the "
        "decoder, equally fast as a whole"
    )
    assert "1.88 times as fast in the decoder, 1.60 times as fast as" in gain("prob:0.9", 1.88, 1.6)
    assert "no policy is as accurate and faster" in gain("topk:2", 1.0, 1.0)
    assert gain_sentence({"gain": None}) is None
    assert "the decoder equally fast" in sentence(result() | {"chosen": "none"})


def test_what_is_gained_is_not_called_lost():
    assert lost(0.25) == "0.25 points of mIoU lost"
    assert lost(-2.25) == "2.25 points of mIoU gained"
    assert lost(-0.001) == "0.00 points of mIoU lost"
    assert interval(0.1, 0.3) == "0.10 to 0.30 lost"
    assert interval(-0.1, 0.3) == "0.10 gained to 0.30 lost"
    assert interval(-0.1, -0.001) == "0.10 gained to 0.00 lost"
    assert interval(-3, -1.5) == "1.50 to 3.00 gained"
    better = choice(-3, -1.5, allowed=-1)
    for one in better["trials"]:
        if one["rejection"] == "fixed:9":
            one["drop_points"] = -2.25
    words = "fixed:9, 2.25 points of mIoU gained against none, 95 % interval 1.50 to 3.00 gained"
    assert words in sentence(better)
    page = render(better)
    assert (
        "<b>2.25</b><span>points of mIoU gained, 95 % interval 1.50 to 3.00 gained</span>" in page
    )
    assert "fastest, 1 points better than none" in page
    assert "No policy gains 1 points of mIoU" in sentence(better | {"chosen": None})
    uncertain = doubt(choice(-3, -0.5, allowed=-1))
    assert "only known to be 0.50 to 3.00 gained, and 1 have to be gained" in uncertain


def test_failed_trials_are_told_of(capsys):
    assert failures(result()) is None
    assert failures(result() | {"failed_trials": 1}) == (
        "1 trial failed: what was found is of the others, the same command tries it again"
    )
    words = "3 trials failed: what was found is of the others, the same command tries them again"
    assert words in render(result() | {"failed_trials": 3})
