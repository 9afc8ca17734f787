"""Pressroom as it comes: every call is a row."""

from bench.peers.ours import durable, ours

PEER = ours("Pressroom", lambda number, payload: durable.delay(number, payload))
