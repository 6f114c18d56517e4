import json

import pytest

from sed.vocabularies import NAMES, vocabulary

SIZES = {
    "coco171": 171,
    "ade150": 150,
    "ade847": 847,
    "pc59": 59,
    "pc459": 459,
    "voc20": 20,
    "voc20b": 59,
}


@pytest.mark.parametrize("name", SIZES)
def test_a_vocabulary_has_one_name_for_each_label(name):
    classes = vocabulary(name)
    assert len(classes) == SIZES[name]
    assert all(isinstance(one, str) and one.strip() for one in classes)


def test_every_vocabulary_is_listed():
    assert set(NAMES) == set(SIZES)


def test_the_background_protocol_begins_with_the_20_objects():
    assert vocabulary("voc20b")[:20] == vocabulary("voc20")
    assert set(vocabulary("voc20b")) == set(vocabulary("pc59"))


def test_synonyms_stand_in_one_name():
    assert sum(", " in name for name in vocabulary("ade847")) == 217


def test_an_unknown_vocabulary_is_an_error_that_lists_the_known_ones():
    with pytest.raises(ValueError, match="'ade151'; known: coco171, ade150"):
        vocabulary("ade151")


@pytest.mark.weights
@pytest.mark.parametrize("name", SIZES)
def test_vocabularies_equal_the_official_class_names(shared_dir, name):
    facts = json.loads((shared_dir / "spec/facts/class_names.json").read_text(encoding="utf-8"))
    assert vocabulary(name) == facts["coco" if name == "coco171" else name]


def test_the_public_name_stays_a_function_whatever_was_imported_first():
    import sed
    import sed.vocabularies

    assert callable(sed.vocabulary)
    for name in sed.__all__:
        assert type(getattr(sed, name)).__name__ != "module", name
