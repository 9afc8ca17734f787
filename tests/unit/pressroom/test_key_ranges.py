"""Rows cut into ranges of keys."""

from itertools import pairwise

import pytest
from django.contrib.auth.models import Group

from pressroom.database.key_ranges import KeyRange, key_ranges

pytestmark = pytest.mark.django_db


@pytest.fixture
def ids() -> list[int]:
    """Keys with gaps of very different sizes."""
    keys = [1, 2, 3, 10, 11, 500, 501, 502, 503, 10**6, 2**31 - 2]
    Group.objects.all().delete()
    Group.objects.bulk_create(Group(pk=pk, name=str(pk)) for pk in keys)
    return keys


def cut(**options: int) -> list[KeyRange]:
    return key_ranges(Group.objects.all(), "pk", **{"after": 0, "size": 4, "most": 10} | options)


def test_each_row_is_in_one_range_and_gaps_do_not_matter(ids: list[int]) -> None:
    assert cut() == [KeyRange(1, 10, 4), KeyRange(11, 502, 4), KeyRange(503, 2**31 - 2, 3)]


def test_it_goes_on_behind_the_last_range(ids: list[int]) -> None:
    found: list[KeyRange] = []
    while ranges := cut(after=found[-1].last if found else 0, size=2, most=2):
        found += ranges
    assert sum(one.count for one in found) == len(ids)
    assert all(left.last < right.first for left, right in pairwise(found))


@pytest.mark.parametrize(("size", "most", "sizes"), [(11, 1, [11]), (12, 1, [11]), (1, 3, [1, 1, 1]), (5, 0, [])])
def test_sizes(ids: list[int], size: int, most: int, sizes: list[int]) -> None:
    assert [one.count for one in cut(size=size, most=most)] == sizes


def test_of_no_rows_there_are_none(ids: list[int]) -> None:
    assert cut(after=2**31 - 2) == []
    assert key_ranges(Group.objects.filter(name="x"), "pk", after=0, size=1, most=1) == []


def test_a_filter_and_another_order_do_no_harm(ids: list[int]) -> None:
    rows = Group.objects.filter(pk__gt=3).order_by("-name")
    assert key_ranges(rows, "pk", after=0, size=100, most=1) == [KeyRange(10, 2**31 - 2, 8)]
