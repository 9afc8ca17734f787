"""Pressroom with a task that allows bundles: a slot claims and finishes several runs together."""

from bench.peers.ours import bundled, ours

PEER = ours("Pressroom, bundle=100", bundled.delay)
