"""Pressroom with tasks that may be lost: they have no row and go straight to Redis after the commit."""

from bench.peers.ours import ours, plain

PEER = ours("Pressroom, durable=False", plain.delay)
