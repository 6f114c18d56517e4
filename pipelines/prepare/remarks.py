"""Sentences about what is missing from a dataset, or is not as it should be."""

from collections.abc import Container, Iterable, Mapping, Sequence, Sized

SHOWN = 5
"""So many names stand in a message."""

RENAMED = 0.1
"""Share of the classes that may have another name than ours."""


def one_sided(
    images: Iterable[str], masks: Iterable[str], image_place: str, mask_place: str
) -> list[str]:
    """Say which names are on one side only."""
    images, masks = set(images), set(masks)
    sides = (
        (sorted(images - masks), "image", f"{image_place} without a mask in {mask_place}"),
        (sorted(masks - images), "mask", f"{mask_place} without an image in {image_place}"),
    )
    return [
        f"{counted(names, noun)} in {rest}: {some(names)}" for names, noun, rest in sides if names
    ]


def absent(ids: Sequence[str], files: Container[str], noun: str) -> list[str]:
    """Say which of the listed names have no file."""
    names = [key for key in ids if key not in files]
    return (
        [f"{len(names)} of {len(ids)} listed names have no {noun}: {some(names)}"] if names else []
    )


def counted(things: Sized, noun: str) -> str:
    """Return "1 class", "2 classes"."""
    plural = noun + ("es" if noun.endswith("ss") else "s")
    return f"{len(things)} {noun if len(things) == 1 else plural}"


def some(names: Sequence[str]) -> str:
    """Return the first names, and that there are more."""
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")


def count_problem(name: str, split: str, found: int, expected: Sequence[int]) -> list[str]:
    """Say that there are fewer or more pairs than the authors ship."""
    if found in expected:
        return []
    wanted = " or ".join(map(str, expected))
    return [f"{name} {split} has {found} of {wanted} pairs"]


def compare_names(
    found: Mapping[int, str], ours: Sequence[str], place: str
) -> tuple[list[str], list[str]]:
    """Compare the class names in a file with ours; return what is wrong, and what is only noted.

    Classes in another order, or of another dataset, are wrong; a few other names are noted.

    Args:
        found: Names by class index, each perhaps with synonyms: "a, b".
        ours: The class names.
        place: The file.
    """
    known = set().union(*map(synonyms, ours))
    differing = {
        index: name for index, name in found.items() if not synonyms(name) & synonyms(ours[index])
    }
    if not differing:
        return [], []
    shown = [
        f"class {index} is {ours[index].strip()!r}, there {name.strip()!r}"
        for index, name in sorted(differing.items())[:SHOWN]
    ]
    sentence = f"{place} differs in {counted(list(differing), 'class name')}: {'; '.join(shown)}"
    moved = any(synonyms(name) & known for name in differing.values())
    return ([sentence], []) if moved or len(differing) > len(found) * RENAMED else ([], [sentence])


def synonyms(name: str) -> set[str]:
    """Return the names in "a, b", folded."""
    return {part.strip().casefold() for part in name.split(",")}
