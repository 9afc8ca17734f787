"""The kinds of calls and the effects that each must have; one effect a task. Standard library only."""

CHUNKS, CHUNK = 3, 3
"""A fan-out goes through so many chunks, each of which calls so many children."""
HEADER = 4
"""Parts of a chord's header."""

PARTS: dict[str, tuple[str, ...]] = {
    "transactional": ("effect",),
    "outside": ("effect",),
    "fan-out": (*(f"chunk {n}" for n in range(CHUNKS)), *(f"child {n}" for n in range(CHUNKS * CHUNK))),
    "quick": ("effect",),
    "chord": (*(f"part {n}" for n in range(HEADER)), "callback"),
}
# Quick ones are a flood's alone.
WEIGHTS = {"transactional": 9, "outside": 9, "fan-out": 1, "chord": 1}


def kind_of(call: str) -> str:
    """The kind in a call's name, ``<number>-<kind>``."""
    return call.partition("-")[2]
