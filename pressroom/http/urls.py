"""Routes under ``/api/tasks/``."""

from rest_framework.routers import SimpleRouter

from pressroom.http.task_api import TaskRunViewSet

router = SimpleRouter(use_regex_path=False)
router.register("", TaskRunViewSet, basename="task")

urlpatterns = router.urls
