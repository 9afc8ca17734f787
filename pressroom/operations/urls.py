"""``/admin/operations/…``"""

from django.urls import path

from pressroom.operations.views import actions, bulk_actions, dead_letters, flow, overview, schedules, tasks, workers

app_name = "operations"

urlpatterns = [
    path("", overview.overview, name="overview"),
    path("flow/act/", flow.act, name="flow_act"),
    path("tasks/", tasks.tasks, name="tasks"),
    path("tasks/act/", actions.act, name="act"),
    path("tasks/<uuid:pk>/", tasks.task, name="task"),
    path("dead-letters/", dead_letters.dead_letters, name="dead_letters"),
    path("actions/", bulk_actions.bulk_actions, name="bulk_actions"),
    path("actions/<int:pk>/", bulk_actions.bulk_action, name="bulk_action"),
    path("actions/<int:pk>/stop/", bulk_actions.stop, name="bulk_action_stop"),
    path("workers/", workers.workers, name="workers"),
    path("schedules/", schedules.schedules, name="schedules"),
    path("schedules/<int:pk>/act/", schedules.act, name="schedule_act"),
]
