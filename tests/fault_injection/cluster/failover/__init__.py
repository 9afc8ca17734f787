"""`make failover`: the chart on a Postgres and a Redis of two servers each, whose first server dies under load."""
