"""Django's own tests of its Tasks framework, against our backend."""
