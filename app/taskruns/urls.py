"""Routes under ``/api/tasks/``."""

from django.urls import path

from app.taskruns.api import TaskRunView

urlpatterns = [path("<uuid:pk>/", TaskRunView.as_view(), name="task-detail")]
