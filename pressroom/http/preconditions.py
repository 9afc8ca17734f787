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
"""Actions whose response is the object itself."""


class ConditionalGetMiddleware(DjangosConditionalGetMiddleware):
    """Django's middleware, without ETags for errors, which no client keeps."""

    def needs_etag(self, response: Any) -> bool:
        return response.status_code == status.HTTP_200_OK and super().needs_etag(response)


class PreconditionFailed(exceptions.APIException):
    status_code = status.HTTP_412_PRECONDITION_FAILED
    default_detail = "The object does not match If-Match or If-None-Match: read it again."


class ConditionalMixin(GenericViewSet[Any]):
    """Adds ETags to the responses of a viewset that are the object, and If-Match to the requests that change it.

    The check and the change are one transaction, which locks the object's row. The ConditionalGetMiddleware answers a
    ``GET`` with If-None-Match.
    """

    takes_preconditions = True
    _compares = False
    """True if the request's handler runs in a transaction in which ``get_object`` compares ETags."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        name = str(request.method).lower()
        given = [header for header in HEADERS if header in request.headers]
        if not given or request.method in SAFE_METHODS or request.method not in self.allowed_methods:
            return
        for header in given:
            if not parse_etags(request.headers[header]):
                raise exceptions.ValidationError({header: "Use quoted ETags, separated by commas, or *."})
        setattr(self, name, transaction.atomic(getattr(self, name)))
        self._compares = True

    def get_object(self) -> Any:
        """Return the object. Raises PreconditionFailed if the request would change it and its ETag does not match."""
        found = super().get_object()
        if not self._compares:
            return found
        list(type(found)._default_manager.select_for_update().filter(pk=found.pk).values_list("pk"))
        try:
            found = super().get_object()
        except Http404 as error:
            # Another request deleted it while this one waited for the lock.
            raise PreconditionFailed from error
        if get_conditional_response(self.request._request, etag=self.etag(self.represent(found))) is not None:
            raise PreconditionFailed
        return found

    def represent(self, found: Any) -> dict[str, Any]:
        """Return the object as ``GET`` shows it."""
        return dict(self.get_serializer(found).data)

    def etag(self, data: dict[str, Any]) -> str:
        """Return the ETag of an object that is represented as ``data``."""
        return f'"{hashlib.sha256(SafeJSONRenderer().render(data)).hexdigest()[:32]}"'

    def get_success_headers(self, data: Any) -> dict[str, str]:
        """Return Location and ETag of a new object.

        They are stored with the response of an Idempotency-Key, unlike headers that are added later.
        """
        return {"Location": data.get("self") or data["url"], "ETag": self.etag(data)}

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        response = super().finalize_response(request, response, *args, **kwargs)
        if isinstance(response, Response) and self.action in OF_THE_OBJECT and response.status_code == 200:
            response["ETag"] = self.etag(response.data)
        return response
