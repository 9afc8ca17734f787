import pytest
from app.blog.models import *
from pressroom.models import *
from tests.unit.blog.mailing import *
from django.core import mail
pytestmark = pytest.mark.django_db(transaction=True)

def test_it(published):
    subscribe(250)
    run = start(published)
    n = work()
    run.refresh_from_db()
    print(n, run.status, run.error, run.traceback, run.progress_current, run.result)
    for c in NotificationChunk.objects.all(): print(c, c.position, c.told, c.failure)
    print(list(TaskRun.objects.values_list("name","status","error","attempt","owner_id")))
    assert len(mail.outbox)==250
    assert 0
