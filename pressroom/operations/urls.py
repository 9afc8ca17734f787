"""``/admin/operations/…``"""

from django.urls import path

from app.operations import schedule_views, task_views, views

app_name = "operations"

urlpatterns = [
    path("", views.overview, name="overview"),
    path("tasks/", task_views.tasks, name="tasks"),
    path("tasks/act/", task_views.act, name="act"),
    path("tasks/<uuid:pk>/", task_views.task, name="task"),
    path("dead-letters/", task_views.dead_letters, name="dead_letters"),
    path("workers/", views.workers, name="workers"),
    path("schedules/", schedule_views.schedules, name="schedules"),
    path("schedules/<int:pk>/act/", schedule_views.act, name="schedule_act"),
]
