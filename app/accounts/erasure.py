"""Of a deleted account: name, address, rights, sessions and tokens go."""

from app.accounts.services import account_erase as erase

__all__ = ["erase"]
