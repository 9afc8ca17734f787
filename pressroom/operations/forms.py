"""The forms that check the filters of the lists, and what a bulk action needs."""

from __future__ import annotations

import datetime
from typing import Any

from django import forms

from pressroom.checks import our_tasks
from pressroom.conf import declared_queues
from pressroom.enqueue.arguments import PRIORITIES
from pressroom.models import Status
from pressroom.sql.run_filter import BAD_SPAN, BAD_YEAR, STANDINGS, RunFilter, has_good_year, is_good_span, user_id_of


class MomentField(forms.DateTimeField):
    """A day and a time in the site's zone."""

    def __init__(self, label: str) -> None:
        widget = forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")
        super().__init__(label=label, required=False, widget=widget)

    def to_python(self, value: Any) -> datetime.datetime | None:
        """Return the moment. Raises ValidationError for a year that no key of a run can express."""
        try:
            moment: datetime.datetime | None = super().to_python(value)
        except OverflowError:
            moment = datetime.datetime.max.replace(tzinfo=datetime.UTC)
        if moment is not None and not has_good_year(moment):
            raise forms.ValidationError(BAD_YEAR)
        return moment


def known_names(name: str) -> tuple[str, ...]:
    """Return the task with this name, or else every known task whose name contains it, or else the name itself."""
    known = [task.name for task in our_tasks()]
    names = (name,) if name in known else tuple(one for one in known if name.lower() in one.lower())
    return names or (name,)


class Paged(forms.Form):
    """The position in a list that is shown in pages."""

    before = forms.UUIDField(required=False, widget=forms.HiddenInput)


class SearchForm(Paged):
    """The search form for tasks."""

    name = forms.CharField(
        label="Task", max_length=200, required=False, widget=forms.TextInput(attrs={"list": "names"})
    )
    queue = forms.ChoiceField(
        required=False, choices=[("", "any"), *((queue.name, queue.name) for queue in declared_queues().values())]
    )
    status = forms.ChoiceField(
        required=False, choices=[("", "any"), *((one, one) for one in (*Status.values, *STANDINGS))]
    )
    error = forms.CharField(max_length=200, required=False, help_text="part of its class or text")
    text = forms.CharField(label="Argument", max_length=200, required=False)
    result = forms.CharField(max_length=200, required=False)
    worker = forms.CharField(max_length=200, required=False, help_text="part of the last one's name")
    owner = forms.CharField(max_length=200, required=False, help_text="user name")
    key = forms.CharField(
        label="Id", max_length=200, required=False, help_text="id of the run, of Celery or of the request"
    )
    since = MomentField("From")
    until = MomentField("To")

    def wanted(self) -> RunFilter:
        """Return what the valid form asks for. Part of a name matches every known task whose name contains it."""
        fields: dict[str, Any] = {name: value for name, value in self.cleaned_data.items() if name != "before"}
        name, owner = fields.pop("name"), fields.pop("owner")
        return RunFilter(names=known_names(name) if name else (), owner_id=owner, **fields)

    def clean_owner(self) -> int | None:
        """Return the key of the user with this name, or None for an empty field."""
        name = self.cleaned_data["owner"]
        if not name:
            return None
        user_id = user_id_of(name)
        if user_id is None:
            raise forms.ValidationError("There is no user with this name.")
        return user_id

    def clean(self) -> dict[str, Any]:
        """Refuse an end that is not after the beginning."""
        fields = super().clean() or {}
        if not is_good_span(fields.get("since"), fields.get("until")):
            raise forms.ValidationError(BAD_SPAN)
        return fields


class MoveForm(forms.Form):
    """Where waiting runs are moved to. Its names are not those of a filter, which may be in the same request."""

    to_queue = forms.ChoiceField(
        label="To the queue",
        required=False,
        choices=[("", "as it is"), *((queue.name, queue.name) for queue in declared_queues().values())],
    )
    to_priority = forms.IntegerField(
        label="With the priority",
        required=False,
        min_value=PRIORITIES[0],
        max_value=PRIORITIES[-1],
        help_text=f"{PRIORITIES[0]} is first, {PRIORITIES[-1]} last",
    )

    def clean(self) -> dict[str, Any]:
        """Refuse a form without a target."""
        fields = super().clean() or {}
        if not self.errors and not fields.get("to_queue") and fields.get("to_priority") is None:
            raise forms.ValidationError("Give a queue, a priority or both.")
        return fields

    def target(self) -> dict[str, Any]:
        """Return the queue and the priority that the valid form asks for."""
        return {"queue": self.cleaned_data["to_queue"], "priority": self.cleaned_data["to_priority"]}


class DeadLetterForm(Paged):
    """The filter of the dead letters."""

    name = forms.CharField(max_length=200, required=False)
    queue = forms.CharField(max_length=200, required=False)
    error_type = forms.CharField(max_length=200, required=False)

    def wanted(self) -> RunFilter:
        """Return what the valid form asks for."""
        fields: dict[str, Any] = {name: value for name, value in self.cleaned_data.items() if name != "before"}
        name = fields.pop("name")
        return RunFilter(names=(name,) if name else (), status=Status.DEAD, **fields)
