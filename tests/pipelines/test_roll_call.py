import pyarrow as pa

from pipelines.roll_call import RollCall, absent

EXPECTED = pa.array(["/a", "/b", "/b/c", "/é"], pa.large_string())


def test_what_is_missing_repeated_or_unknown_is_known_in_whatever_order_it_comes():
    call = RollCall(EXPECTED)
    call.meet(["/é", "/é", "/x", "/a"])
    call.meet(["/b", "", "/x", "/zz", "/a", "/a"])
    assert list(call.missing()) == ["/b/c"]
    assert call.repeated() == [("/a", 3), ("/x", 2), ("/é", 2)]
    assert call.unknown == {"": 1, "/x": 2, "/zz": 1}


def test_what_another_list_lacks_is_found_where_the_first_is_not_its_beginning():
    uris = pa.array(["/a", "/aa", "/é", "/ö"], pa.large_string())
    assert list(absent(uris, EXPECTED)) == ["/aa", "/ö"]
    assert list(absent(EXPECTED, uris[:0])) == EXPECTED.to_pylist()
    assert list(absent(uris[:0], EXPECTED)) == []
