"""Logging in to the admin."""

from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError

from ingest.ratelimits import Caller, Limiter, RateLimited

if TYPE_CHECKING:
    from django.contrib.admin.forms import AdminAuthenticationForm as AuthenticationForm
else:
    from unfold.forms import AuthenticationForm


class LoginForm(AuthenticationForm):
    """Counts attempts by address, before the password is looked at: who guesses too often learns no
    more, and costs no hashing."""

    def clean(self) -> dict[str, Any]:
        if self.request is not None:
            try:
                Limiter(Caller(self.request), ["login.ip"]).check()
            except RateLimited as limited:
                raise ValidationError(
                    f"There were too many attempts from your address. Try again in {limited.wait} "
                    "seconds.",
                    "rate_limited",
                ) from None
        return super().clean()
