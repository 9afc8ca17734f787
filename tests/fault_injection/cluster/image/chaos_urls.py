"""The project's routes, and one to call the oracle's tasks by."""

import json

from chaos_tasks import poison
from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from app.urls import urlpatterns as theirs
from tests.fault_injection.local.calls import kind_of
from tests.fault_injection.local.tasks import make


@csrf_exempt
def call(request: HttpRequest) -> JsonResponse:
    """Make all the calls in the body, a JSON list, in one transaction."""
    calls = json.loads(request.body)
    with transaction.atomic():
        for call in calls:
            if call == "poison":
                poison.delay()
            else:
                make(call, kind_of(call))
    return JsonResponse({"calls": len(calls)}, status=202)


urlpatterns = [*theirs, path("oracle/", call)]
