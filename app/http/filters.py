"""Filtering of lists by query parameters."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet
from rest_framework.filters import BaseFilterBackend
from rest_framework.request import Request
from rest_framework.serializers import Serializer, ValidationError


class ListFilter(BaseFilterBackend):
    """Filters a list by the view's ``filter_serializer_class``, whose fields are fields of the model.

    An unknown or repeated query parameter gets 400. Otherwise a client that misspells a filter would take the
    unfiltered list for its answer.
    """

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: Any) -> QuerySet[Any]:
        if view.action != "list":
            return queryset
        serializer_class: type[Serializer[Any]] | None = getattr(view, "filter_serializer_class", None)
        known = set(serializer_class().fields) if serializer_class is not None else set()
        page = view.paginator
        known |= {page.cursor_query_param, page.page_size_query_param} if page is not None else set()
        errors = {}
        for name, values in request.query_params.lists():
            if name not in known:
                errors[name] = f"Unknown parameter. The known ones are: {', '.join(sorted(known)) or 'none'}."
            elif len(values) > 1:
                errors[name] = "Give this parameter only once."
        if errors:
            raise ValidationError(errors)
        if serializer_class is None:
            return queryset
        wanted = serializer_class(data=request.query_params.dict())
        wanted.is_valid(raise_exception=True)
        narrow = getattr(view, "narrow", None)
        fields = dict(wanted.validated_data)
        return narrow(queryset, fields) if narrow is not None else queryset.filter(**fields)
