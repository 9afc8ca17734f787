"""Covers of posts: their sizes, and the API that takes and serves them."""
