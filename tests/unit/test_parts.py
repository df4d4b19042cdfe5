"""Parts of a set: all images once, in order, cut between chunks."""

import pytest

from blindspots.parts import part_of


@pytest.mark.parametrize("images", [1, 9, 10, 11, 100, 101])
@pytest.mark.parametrize("count", [1, 2, 3, 11, 12])
def test_parts_are_whole_chunks_and_cover_all_images(images, count):
    parts = [part_of(images, 10, number, count) for number in range(count)]
    assert [i for part in parts for i in range(images)[part]] == list(range(images))
    for part in parts:
        assert part.start % 10 == 0 and (part.stop % 10 == 0 or part.stop == images)
    chunks = [-(-len(range(images)[part]) // 10) for part in parts]
    assert max(chunks) - min(chunks) <= 1
