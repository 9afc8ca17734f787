"""What settings make of the environment."""

import os
import runpy
from unittest import mock
from urllib.parse import unquote, urlsplit

import pytest

from app.local.servers import PROJECT


@pytest.mark.parametrize(
    ("given", "broker"),
    [
        ({"REDIS_URL": "redis://r:6379"}, "redis://r:6379/0"),
        ({"REDIS_URL": "redis://:old@r/"}, "redis://:old@r/0"),
        ({"REDIS_URL": "redis://r", "REDIS_PASSWORD": "a/b@c:d"}, "redis://:a%2Fb%40c%3Ad@r/0"),
        ({"REDIS_URL": "redis://r", "REDIS_PASSWORD": 'a"\\ %?#&\n'}, "redis://:a%22%5C%20%25%3F%23%26@r/0"),
        ({"REDIS_URL": "redis://press@r", "REDIS_PASSWORD": "x"}, "redis://press:x@r/0"),
        (
            {"REDIS_URL": "rediss://r", "REDIS_CA": "/etc/redis/ca.crt"},
            "rediss://r/0?ssl_cert_reqs=required&ssl_exclude_verify_flags=VERIFY_X509_STRICT&ssl_ca_certs=/etc/redis/ca.crt",
        ),
        ({"REDIS_URL": "redis://r", "REDIS_PASSWORD": "x", "CELERY_BROKER_URL": "redis://b/7"}, "redis://b/7"),
    ],
)
def test_redis_password_and_authority_may_stand_beside_the_url(given: dict[str, str], broker: str) -> None:
    env = {name: value for name, value in os.environ.items() if "REDIS" not in name} | given
    with mock.patch.dict(os.environ, env, clear=True):
        settings = runpy.run_path(str(PROJECT / "app" / "settings.py"))
    assert settings["CELERY_BROKER_URL"] == broker
    cache = urlsplit(settings["CACHE_URL"])
    assert cache.path == "/2"
    if "REDIS_PASSWORD" in given:
        assert unquote(cache.password or "") == given["REDIS_PASSWORD"].rstrip("\n")


@pytest.mark.parametrize(
    ("given", "password"),
    [
        ({"DATABASE_URL": "postgres://u@h/d", "PGPASSWORD": "a:/@ \n"}, "a:/@ "),
        ({"DATABASE_URL": "postgres://u:in%20it@h/d", "PGPASSWORD": "beside"}, "in it"),
        ({"DATABASE_URL": "postgres://u@h/d", "PGPASSWORD": ""}, ""),
    ],
)
def test_the_password_of_postgres_may_stand_beside_the_url(given: dict[str, str], password: str) -> None:
    with mock.patch.dict(os.environ, given):
        settings = runpy.run_path(str(PROJECT / "app" / "settings.py"))
    assert settings["DATABASES"]["default"]["PASSWORD"] == password
