"""A project's own collector, as its form asks for it. Its headers are never shown again."""

from typing import TYPE_CHECKING, Any

from django import forms
from unfold.widgets import UnfoldAdminTextareaWidget

from ingest.forwarding.headers import check_headers
from ingest.forwarding.networks import InvalidDestination, Place, place_of
from ingest.forwarding.sealing import Unreadable, seal, unseal
from ingest.models import Project

if TYPE_CHECKING:
    BaseForm = forms.ModelForm[Project]
else:
    BaseForm = forms.ModelForm

_MOST_HEADERS = 20


class _WriteOnly(UnfoldAdminTextareaWidget):  # type: ignore[misc]
    """A text that no answer has in it, not even that to a form which was filled in wrongly."""

    def format_value(self, value: Any) -> str:
        return ""


class ForwardingForm(BaseForm):
    """A project, and the headers that its collector wants."""

    collector_headers = forms.CharField(
        label="OTLP headers",
        required=False,
        strip=True,
        max_length=20_000,
        widget=_WriteOnly(attrs={"rows": 3, "autocomplete": "off", "spellcheck": "false"}),
    )
    forget_headers = forms.BooleanField(
        label="Forget its OTLP headers", required=False, help_text="From now on none are sent."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # What is kept now; what is in `otlp_headers` is changed once the form is valid.
        self._kept = self.instance.otlp_headers
        self._was_at = self.instance.otlp_endpoint
        endpoint = self.fields["otlp_endpoint"]
        endpoint.help_text = (
            f"{endpoint.help_text}. It must be on the internet: what is in this network can be the "
            "instance's alone."
        )
        self.fields["collector_headers"].help_text = (
            "What the collector wants to know you by, a header a line: Authorization: Bearer … "
            f"Encrypted, and never shown again. {self._told()}"
        )

    def _told(self) -> str:
        """Which headers there are, by their names alone."""
        try:
            names = ", ".join(unseal(self._kept))
        except Unreadable as error:
            return str(error)
        return f"Kept now: {names}. Empty: they stay." if names else "None are kept now."

    def clean_collector_headers(self) -> dict[str, str]:
        """The headers by name; nothing of what is wrong is repeated."""
        lines = [
            line for line in self.cleaned_data["collector_headers"].splitlines() if line.strip()
        ]
        parts = [line.partition(":") for line in lines]
        headers = {name.strip(): value.strip() for name, _, value in parts}
        if len(headers) > _MOST_HEADERS:
            raise forms.ValidationError(f"Give {_MOST_HEADERS} headers at most.")
        if not all(colon for _, colon, _ in parts):
            raise forms.ValidationError("Give each header a line of its own: Name: value")
        try:
            check_headers(headers)
        except InvalidDestination as error:
            raise forms.ValidationError(str(error)) from None
        return headers

    def clean(self) -> dict[str, Any]:
        super().clean()
        given: dict[str, str] = self.cleaned_data.get("collector_headers") or {}
        forget: bool = self.cleaned_data["forget_headers"]
        endpoint = self.cleaned_data.get("otlp_endpoint")
        if given and forget:
            self.add_error("forget_headers", "Give headers, or have them forgotten: not both.")
        elif given and endpoint == "":
            self.add_error("otlp_endpoint", "Say where the headers are to be sent.")
        elif self._kept and endpoint and not given and not forget and self._moves(endpoint):
            # Whoever may change the endpoint must not learn them so.
            self.add_error(
                "collector_headers",
                "The headers that are kept are for the endpoint before: give them again, or have "
                "them forgotten.",
            )
        elif endpoint is not None:
            self.instance.otlp_headers = self._headers(given, keep=bool(endpoint) and not forget)
        return self.cleaned_data

    def _headers(self, given: dict[str, str], *, keep: bool) -> str:
        """What is to be kept, sealed."""
        if given:
            return seal(given)
        return self._kept if keep else ""

    def _moves(self, endpoint: str) -> bool:
        """Whether another server would get them, or anybody on the way."""
        return _server(endpoint) != _server(self._was_at)


def _server(endpoint: str) -> tuple[str, str, int] | None:
    try:
        place: Place = place_of(endpoint)
    except InvalidDestination:
        return None
    return place.scheme, place.host, place.port
