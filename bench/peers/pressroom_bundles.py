"""Pressroom with a task that may go in bundles: several are claimed and ended together."""

from bench.peers.ours import bundled, ours

PEER = ours("Pressroom, bundle=100", bundled.delay)
