"""The words of the scenes: grounds, and objects made of a look and a shape."""

SKIES = ("blue sky", "cloudy sky", "sunset sky")
LANDS = ("grass", "sand", "water", "snow", "gravel", "asphalt")
WALLS = ("brick wall",)
FLOORS = ("wooden floor", "tiled floor")
GROUNDS = SKIES + LANDS + WALLS + FLOORS

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "black", "white")
PATTERNS = ("striped", "spotted", "checkered", "wooden")
LOOKS = COLOURS + PATTERNS

SHAPES = (
    "ball",
    "box",
    "star",
    "umbrella",
    "mug",
    "bottle",
    "tree",
    "house",
    "fish",
    "heart",
    "ring",
    "car",
)


def vocabulary() -> list[str]:
    """Return every class name: the grounds, then each look of each shape, seen or not."""
    return list(GROUNDS) + [f"{look} {shape}" for shape in SHAPES for look in LOOKS]


def training_classes() -> list[int]:
    """Return the classes that training scenes are made of, grounds included."""
    return [*range(len(GROUNDS)), *seen_objects()]


def seen_objects() -> list[int]:
    """Return the object classes that are drawn for training."""
    unseen = set(unseen_classes())
    return [i for i in range(len(GROUNDS), len(vocabulary())) if i not in unseen]


def unseen_classes() -> list[int]:
    """Return the object classes that no training scene shows.

    One combination in five, along diagonals of the table of shapes and looks: every shape and
    every look loses two or three partners and keeps at least nine.
    """
    return [
        object_class(shape, look)
        for shape in range(len(SHAPES))
        for look in range(len(LOOKS))
        if (shape + 2 * look) % 5 == 0
    ]


def object_class(shape: int, look: int) -> int:
    """Return the class of a shape in a look, both given by their position."""
    return len(GROUNDS) + shape * len(LOOKS) + look


def shape_and_look(class_index: int) -> tuple[str, str]:
    """Return what an object class is made of, e.g. ("ball", "red")."""
    shape, look = divmod(class_index - len(GROUNDS), len(LOOKS))
    return SHAPES[shape], LOOKS[look]


def coarse_name(class_index: int) -> tuple[str, ...]:
    """Return the words a class name is made of: ("red", "ball"), ("brick", "wall"), ("grass",)."""
    return tuple(vocabulary()[class_index].split())
