"""The forms that check the filters of the lists."""

from __future__ import annotations

from typing import Any

from django import forms

from pressroom.checks import our_tasks
from pressroom.conf import declared_queues
from pressroom.models import Status
from pressroom.operations.search import STANDINGS, Wanted


def moment(label: str) -> forms.DateTimeField:
    """Return a field for a day and a time in the site's zone."""
    widget = forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")
    return forms.DateTimeField(label=label, required=False, widget=widget)


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
    text = forms.CharField(label="Argument", max_length=200, required=False)
    key = forms.CharField(
        label="Id", max_length=200, required=False, help_text="id of the run, of Celery or of the request"
    )
    since = moment("From")
    until = moment("To")

    def wanted(self) -> Wanted:
        """Return what the valid form asks for. Part of a name matches every known task whose name contains it."""
        fields: dict[str, Any] = dict(self.cleaned_data)
        name = fields.pop("name")
        known = [task.name for task in our_tasks()]
        names = (name,) if name in known else tuple(one for one in known if name.lower() in one.lower())
        return Wanted(names=(names or (name,)) if name else (), **fields)

    def clean(self) -> dict[str, Any]:
        """Refuse an end that is not after the beginning."""
        fields = super().clean() or {}
        since, until = fields.get("since"), fields.get("until")
        if since and until and until <= since:
            raise forms.ValidationError("The end is not after the beginning.")
        return fields


class DeadLetterForm(Paged):
    """The filter of the dead letters."""

    name = forms.CharField(max_length=200, required=False)
    queue = forms.CharField(max_length=200, required=False)
    error_type = forms.CharField(max_length=200, required=False)

    def wanted(self) -> Wanted:
        """Return what the valid form asks for."""
        fields: dict[str, Any] = dict(self.cleaned_data)
        name = fields.pop("name")
        return Wanted(names=(name,) if name else (), status=Status.DEAD, **fields)
