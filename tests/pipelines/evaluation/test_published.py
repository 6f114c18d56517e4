from pipelines.evaluation.published import NOTHING, PUBLISHED, Measured, lines, paper_table


def test_the_table_tells_what_is_published_from_what_was_measured():
    scores = [
        Measured("ade20k-150", "none", 31.84, 2000),
        Measured("ade20k-150", "topk:8", 31.5, 2000),
        Measured("pascal-voc-20b", "none", 77.0, 100),
        Measured("scenes", "none", 80.0, 512),
    ]
    table = paper_table("sed_base.pth", scores)
    assert [row.name for row in table.measured] == ["sed_base.pth, none", "sed_base.pth, topk:8"]
    assert table.measured[0].cells == [NOTHING, NOTHING, "31.8", NOTHING, NOTHING, "77.0*"]
    assert table.measured[1].cells == [NOTHING, NOTHING, "31.5", NOTHING, NOTHING, NOTHING]
    assert [row.name for row in table.published] == list(PUBLISHED)
    assert table.published[0].cells == ["11.2", "18.6", "31.8", "57.7", "94.4", NOTHING]
    text = lines(table)
    published, measured = text.index("published by the authors:"), text.index("measured here:")
    assert [line.split()[0] for line in text[published + 1 : measured]] == ["SED", "SED-fast"] * 2
    assert len({line.rindex(" ") for line in text[measured - 1 : measured]}) == 1
    assert "* not on all images of the benchmark: 100 of the 1449 of pascal-voc-20b." in text
    assert "not measured in this run" in "\n".join(text)


def test_without_a_dataset_of_the_paper_there_is_no_table():
    assert paper_table("nano", [Measured("scenes", "none", 80.0, 512)]) is None


def test_a_dataset_without_a_score_has_none_in_the_table():
    table = paper_table("nano", [Measured("ade20k-847", "none", None, 2000)])
    assert table.measured[0].cells[0] == NOTHING
