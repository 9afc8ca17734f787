import pressroom.tracing.redis_import  # noqa: F401 - before any module here imports redis
