"""``ETag``, ``If-Match`` and ``If-None-Match`` (RFC 9110) for single objects of the API."""

from __future__ import annotations

import hashlib
from typing import Any

from django.db import transaction
from django.http import Http404
from django.middleware.http import ConditionalGetMiddleware as DjangosConditionalGetMiddleware
from django.utils.cache import get_conditional_response
from django.utils.http import parse_etags
from rest_framework import exceptions, status
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import GenericViewSet

from pressroom.http.json_renderer import SafeJSONRenderer

HEADERS = ("If-Match", "If-None-Match")
OF_THE_OBJECT = ("retrieve", "update", "partial_update")
"""Actions whose answer is the object itself."""


class ConditionalGetMiddleware(DjangosConditionalGetMiddleware):
    """Django's; errors get no ETag: nobody keeps them."""

    def needs_etag(self, response: Any) -> bool:
        return response.status_code == status.HTTP_200_OK and super().needs_etag(response)


class PreconditionFailed(exceptions.APIException):
    status_code = status.HTTP_412_PRECONDITION_FAILED
    default_detail = "It is not in the state that If-Match or If-None-Match names: read it again."


class ConditionalMixin(GenericViewSet[Any]):
    """For a viewset: each answer that is the object carries its ETag; whatever changes the object heeds If-Match.

    The check and the change are one transaction, under a lock of the object's row. ``GET`` with If-None-Match is
    answered by the ConditionalGetMiddleware.
    """

    takes_preconditions = True
    _compares = False
    """The request's handler runs in a transaction, in which ``get_object`` compares before it gives the object."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        name = str(request.method).lower()
        given = [header for header in HEADERS if header in request.headers]
        if not given or request.method in SAFE_METHODS or request.method not in self.allowed_methods:
            return
        for header in given:
            if not parse_etags(request.headers[header]):
                raise exceptions.ValidationError({header: "ETags in quotes, separated by commas, or *."})
        setattr(self, name, transaction.atomic(getattr(self, name)))
        self._compares = True

    def get_object(self) -> Any:
        """The object. Raises PreconditionFailed where the request wants it in another state before it changes it."""
        found = super().get_object()
        if not self._compares:
            return found
        list(type(found)._default_manager.select_for_update().filter(pk=found.pk).values_list("pk"))
        try:
            found = super().get_object()
        except Http404 as error:
            # Gone while the lock was waited for.
            raise PreconditionFailed from error
        if get_conditional_response(self.request._request, etag=self.etag(self.represent(found))) is not None:
            raise PreconditionFailed
        return found

    def represent(self, found: Any) -> dict[str, Any]:
        """What ``GET`` answers for the object."""
        return dict(self.get_serializer(found).data)

    def etag(self, data: dict[str, Any]) -> str:
        """The ETag of the object that is represented like this."""
        return f'"{hashlib.sha256(SafeJSONRenderer().render(data)).hexdigest()[:32]}"'

    def get_success_headers(self, data: Any) -> dict[str, str]:
        """Where a new object is in the API, and its ETag: kept with an Idempotency-Key's answer, unlike what is added
        to an answer later.
        """
        return {"Location": data.get("self") or data["url"], "ETag": self.etag(data)}

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        if isinstance(response, Response) and self.action in OF_THE_OBJECT and response.status_code == 200:
            response["ETag"] = self.etag(response.data)
        return response
