"""The page of the OpenAPI document, in a browser: it draws itself with what the service has."""

from playwright.sync_api import Page

from tests.harness import Service


def test_the_page_shows_every_operation_and_asks_nobody_else(page: Page, service: Service) -> None:
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(f"{service.url}/api/schema/docs/")
    page.wait_for_selector(".opblock")
    paths = service.request("GET", "/api/schema/").json["paths"]
    assert page.locator(".opblock").count() == sum(len(methods) for methods in paths.values())
    assert all(url.startswith((f"{service.url}/", "data:")) for url in asked)
    assert not complaints  # what the content security policy refuses is said there
