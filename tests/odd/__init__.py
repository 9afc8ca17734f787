"""A fuzzer: odd calls of many kinds among plain ones on a real stack; one odd thing must stop nobody else.

``python -m tests.odd --help``. What is drawn (by hypothesis, from the seed) is a description of plain JSON, so that the
caller and the worker each build the odd thing themselves and a finding can be read and repeated.
"""
