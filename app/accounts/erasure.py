"""What the erasure of an account removes from this app: name, address, permissions, sessions and tokens."""

from app.accounts.services import account_erase as erase

__all__ = ["erase"]
