"""Where a project's own destination may not lead, however it is written."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.forwarding.headers import check_headers
from ingest.forwarding.networks import InvalidDestination, Place, check_url, is_public, place_of

SECRET = "s3cret-t0ken"


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.100.100.200", "127.0.0.1",
        "127.255.255.254", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192",
        "192.0.2.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1",
        "239.255.255.255", "240.0.0.1", "255.255.255.255", "168.63.129.16",
        "::", "::1", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1",
        "3fff::1", "100::1", "::127.0.0.1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254",
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1",
        "2002:7f00:1::", "2002:a00:1::1", "2001::1",
    ],
)  # fmt: skip
def test_addresses_of_no_public_network(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0",
        "172.15.255.255", "172.32.0.0", "192.167.255.255", "223.255.255.255",
        "2606:4700:4700::1111", "2a00:1450:4001::1", "::ffff:8.8.8.8", "64:ff9b::808:808",
    ],
)  # fmt: skip
def test_addresses_of_the_public_network(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@given(st.ip_addresses())
def test_nothing_is_public_that_python_knows_to_be_special(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    if address.is_multicast or address.is_unspecified or address.is_loopback:
        assert not is_public(address)
    if not address.is_global and getattr(address, "ipv4_mapped", None) is None:
        assert not is_public(address)


@given(st.ip_addresses(v=4))
def test_an_address_is_judged_alike_in_all_its_wrappings(address: ipaddress.IPv4Address) -> None:
    for prefix in ("::ffff:0:0", "64:ff9b::"):
        wrapped = ipaddress.IPv6Address(int(ipaddress.IPv6Address(prefix)) + int(address))
        assert is_public(wrapped) == is_public(address)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("http://a.example", Place("http", "a.example", 80, "/")),
        ("https://a.example/", Place("https", "a.example", 443, "/")),
        ("HTTPS://A.Example:4318/v1/logs", Place("https", "a.example", 4318, "/v1/logs")),
        ("http://[2001:DB8::1]:1/x?y=@z", Place("http", "2001:db8::1", 1, "/x?y=@z")),
        ("http://otel_collector:65535", Place("http", "otel_collector", 65535, "/")),
        ("http://a.example./v1", Place("http", "a.example.", 80, "/v1")),
    ],
)
def test_a_url_is_read_in_one_way(url: str, place: Place) -> None:
    assert place_of(url) == place


@pytest.mark.parametrize(
    "url",
    [
        "", "a.example", "//a.example", "ftp://a.example", "file:///etc/passwd", "http://",
        "http:///v1", "http://a.example:0", "http://a.example:65536", "http://a.example:x",
        "http://a.example:", "http://a.example?x", "http://a.example/#x", "http://a.example#x",
        f"http://user:{SECRET}@a.example", f"http://{SECRET}@a.example/v1", "http://a b.example",
        "http://a.example/ x", "http://a.example/\r\nX: y", "http://a.example\n", "\thttp://a.example",
        "http://a.example\\@127.0.0.1", "http://münchen.example", "http://[::1", "http://[x]",
        "http://[fe80::1%25eth0]", "http://[1.2.3.4]", "http://-a.example", "http://a..example",
        "http://" + "a" * 64 + ".example", "http://" + "a." * 127 + "example", "gopher://a.example",
    ],
)  # fmt: skip
def test_what_is_no_url_of_a_collector_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(InvalidDestination) as told:
        place_of(url)
    assert SECRET not in str(told.value)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.0.0.1.", "127.1", "0x7f.1", "0x7f000001", "2130706433", "017700000001",
        "0", "10.1", "localhost", "LOCALHOST.", "x.localhost", "[::1]", "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]", "[::]", "169.254.169.254", "[64:ff9b::a9fe:a9fe]", "192.168.0.1",
    ],
)  # fmt: skip
def test_a_projects_own_url_is_refused_where_it_names_an_address_of_ours(host: str) -> None:
    with pytest.raises(InvalidDestination, match="isn't public"):
        check_url(f"https://{host}:4318/v1/logs")


@pytest.mark.parametrize("host", ["collector.example.com", "8.8.8.8", "[2606:4700::1]"])
def test_a_projects_own_url_may_name_what_is_public(host: str) -> None:
    check_url(f"https://{host}:4318")


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    for url in (text, f"http://{text}", f"http://a.example:{text}", f"https://a.example/{text}"):
        try:
            place = place_of(url)
        except InvalidDestination:
            continue
        assert place.scheme in ("http", "https")
        assert 1 <= place.port <= 65_535
        assert (place.host + place.path).isascii()
        assert place.path.startswith("/")


@pytest.mark.parametrize(
    "headers",
    [
        {"": "x"}, {"a b": "x"}, {"a:": "x"}, {"a\r\nb": "x"}, {"ä": "x"},
        {"Host": "x"}, {"content-length": "1"}, {"Transfer-Encoding": "chunked"},
        {"Content-Type": "text/plain"}, {"Connection": "close"},
        {"X-Key": f"{SECRET}\r\nX-Other: y"}, {"X-Key": f"{SECRET}\n"}, {"X-Key": f"{SECRET}\0"},
        {"X-Key": f"{SECRET}ä"}, {"X-Key": f" {SECRET}"}, {"X-Key": SECRET * 1000},
    ],
)  # fmt: skip
def test_headers_that_cannot_be_sent_are_refused_without_their_values(
    headers: dict[str, str],
) -> None:
    with pytest.raises(InvalidDestination) as told:
        check_headers(headers)
    assert SECRET not in str(told.value)


def test_headers_as_collectors_want_them() -> None:
    check_headers({"Authorization": f"Basic {SECRET}==", "X-Scope-OrgID": "a b\tc", "x": ""})
