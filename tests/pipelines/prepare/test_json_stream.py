import io
import json

import pytest

from pipelines.prepare.json_stream import JsonStream, read_chunks

CONTENT = {
    "empty": [],
    "numbers": [1, -2.5e3, 1234567, 0],
    "text": 'a "quoted" ü, [not] {structure} 图',
    "nested": {"a": [1, {"b": None}], "c": True},
    "last": 42,
    "records": [{"id": i, "x": [i, [i]], "name": f"número {i}"} for i in range(30)],
}


def stream(data, size):
    return JsonStream(read_chunks(io.BytesIO(data), size))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 100_000])
@pytest.mark.parametrize("indent", [None, 2])
def test_members_are_what_json_reads_whatever_the_chunks(size, indent):
    data = json.dumps(CONTENT, ensure_ascii=False, indent=indent).encode()
    found = {name: list(elements) for name, elements in stream(data, size).members()}
    wanted = {
        name: value if isinstance(value, list) else [value] for name, value in CONTENT.items()
    }
    assert found == wanted


def test_what_is_not_read_is_passed_over():
    data = json.dumps(CONTENT).encode()
    assert [name for name, _ in stream(data, 5).members()] == list(CONTENT)
    seen = {name: next(elements) for name, elements in stream(data, 5).members() if name != "empty"}
    assert seen["records"]["id"] == 0
    assert seen["last"] == 42


@pytest.mark.parametrize("data", [b"", b"[1]", b'{"a": [1, 2', b'{"a": 1 "b": 2}', b'{"a": [1 2]}'])
def test_what_is_no_object_is_an_error(data):
    with pytest.raises(ValueError, match=r"JSON|Expecting"):
        {name: list(elements) for name, elements in stream(data, 4).members()}


def test_no_more_than_a_chunk_and_an_element_is_in_memory():
    data = json.dumps({"a": [{"x": "y" * 50}] * 5000}).encode()
    reader = stream(data, 1000)
    for _, elements in reader.members():
        assert max(len(reader.text) for _ in elements) < 4000
