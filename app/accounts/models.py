"""Who uses Pressroom."""

from django.contrib.auth.models import AbstractUser
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Lower


class User(AbstractUser):
    """Django's user with an e-mail address of its own; addresses differ by more than case."""

    email = models.EmailField("e-mail address")

    class Meta(AbstractUser.Meta):
        constraints = [models.UniqueConstraint(Lower("email"), name="user_email_unique")]

    def clean(self) -> None:
        """Say at which field a taken address stands; the constraint holds it against a race."""
        super().clean()
        if User.objects.filter(email__iexact=self.email).exclude(pk=self.pk).exists():
            raise ValidationError({"email": "This address is registered already."})
