"""Pressroom with its defaults: every call is a row."""

from bench.peers.ours import durable, ours

PEER = ours("Pressroom", durable.delay)
